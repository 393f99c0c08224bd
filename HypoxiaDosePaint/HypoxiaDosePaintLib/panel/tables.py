"""Rows of text in a Qt table."""

from __future__ import annotations

from typing import Any

import qt

ROW_PADDING = 10  # pixels around a line of text in a table


def fill_table(table: Any, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Write rows of text into a table that is as high as its rows; one without rows is not shown."""
    table.visible = bool(rows)
    table.rowCount = 0  # also takes out the widgets of cells
    table.rowCount, table.columnCount = len(rows), len(columns)
    table.setHorizontalHeaderLabels(list(columns))
    table.verticalHeader().hide()
    table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    line = table.fontMetrics().height() + ROW_PADDING
    for r, row in enumerate(rows):
        table.setRowHeight(r, line)
        for c, text in enumerate(row):
            table.setItem(r, c, qt.QTableWidgetItem(text))
    table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    table.horizontalHeader().setStretchLastSection(True)
    table.minimumHeight = table.maximumHeight = line * (len(rows) + 1) + ROW_PADDING
