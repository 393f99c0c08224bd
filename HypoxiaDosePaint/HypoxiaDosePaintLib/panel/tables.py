"""Rows of text in a Qt table."""

from __future__ import annotations

from typing import Any

import qt

ROW_PADDING = 10  # pixels around a line of text in a table


def fill_table(table: Any, columns: tuple[str, ...], rows: list[tuple[str, ...]], widest: int = 0) -> None:
    """Write rows of text into a table that is as high as its rows; one without rows is not shown.

    Parameters
    ----------
    widest : int
        Column that takes what width is left, so that a narrow panel needs no scroll bar.
    """
    table.visible = bool(rows)
    table.rowCount = 0  # also takes out the widgets of cells
    table.rowCount, table.columnCount = len(rows), len(columns)
    table.setHorizontalHeaderLabels(list(columns))
    table.verticalHeader().hide()
    table.setTabKeyNavigation(False)  # the Tab key leaves the table
    table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    table.wordWrap = False  # a row is one line high
    line = table.fontMetrics().height() + ROW_PADDING
    for r, row in enumerate(rows):
        table.setRowHeight(r, line)
        for c, text in enumerate(row):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(text)  # a narrow panel cuts names and reasons off
            table.setItem(r, c, item)
    header = table.horizontalHeader()
    header.setStretchLastSection(False)
    for c in range(len(columns)):
        header.setSectionResizeMode(c, qt.QHeaderView.Stretch if c == widest else qt.QHeaderView.ResizeToContents)
    table.minimumHeight = table.maximumHeight = line * (len(rows) + 1) + ROW_PADDING
