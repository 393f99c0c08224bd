"""Labels of several lines in Qt."""

from __future__ import annotations

from typing import Any


def fit_labels(*labels: Any) -> None:
    """Give labels the height of their text: a collapsible button does not ask its wrapped labels for it."""
    for label in labels:
        if label.visible:  # its width is that of the panel only then
            label.minimumHeight = 0  # else it never shrinks
            label.minimumHeight = max(0, label.heightForWidth(label.width))
