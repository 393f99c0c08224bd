"""What Qt does not do by itself in a panel: labels of several lines, and the way of the Tab key through new rows."""

from __future__ import annotations

from typing import Any

import qt


def fit_labels(*labels: Any) -> None:
    """Give labels the height of their text: a collapsible button does not ask its wrapped labels for it."""
    for label in labels:
        if label.visible:  # its width is that of the panel only then
            label.minimumHeight = 0  # else it never shrinks
            label.minimumHeight = max(0, label.heightForWidth(label.width))
    qt.QTimer.singleShot(0, lambda: _lay_out_again(labels))


def _lay_out_again(labels: tuple[Any, ...]) -> None:
    """Once more, after Qt has: rows of a step that became lower are placed by their heights of before."""
    try:
        for label in labels:
            if label.visible:
                label.parentWidget().layout().invalidate()
    except (RuntimeError, ValueError):
        return  # the panel is gone meanwhile: PySide and PythonQt name it so


def tab_after(first: Any, container: Any) -> None:
    """The Tab key goes from a widget into the rows of a container, which were made after all others."""
    reach_by_key(container)
    before = (_stops(first) or [first])[-1]
    for widget in _stops(container):
        qt.QWidget.setTabOrder(before, widget)
        before = widget


def reach_by_key(parent: Any) -> None:
    """Let the Tab key stop at node selectors: in Slicer their list hands the focus to a frame that takes no key."""
    for child in parent.children():
        if getattr(child, "isWidgetType", bool)():
            if child.focusProxy() == parent and not _takes_tab(parent):
                child.setFocusProxy(None)
            reach_by_key(child)


def _takes_tab(widget: Any) -> bool:
    """True if the Tab key stops at a widget."""
    policy = widget.focusPolicy() if callable(widget.focusPolicy) else widget.focusPolicy
    return bool(policy & qt.Qt.TabFocus)


def _stops(parent: Any) -> list[Any]:
    """Widgets inside another one that the Tab key stops at, in the order they were made in."""
    found = []
    for child in parent.children():
        if getattr(child, "isWidgetType", bool)():
            found += [child] if _takes_tab(child) else _stops(child)  # a spin box has a line edit inside
    return found
