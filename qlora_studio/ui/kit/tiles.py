"""Widgets in as many columns as there is room for."""

from collections.abc import Sequence

from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QWidget


class TileGrid(QWidget):
    """Widgets of equal width in rows: as many of `columns` as leave each at least `least` pixels."""

    def __init__(self, widgets: Sequence[QWidget], *, columns: Sequence[int], least: int, spacing: int = 10) -> None:
        super().__init__()
        self._widgets = tuple(widgets)
        self._columns, self._least = sorted(columns, reverse=True), least
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(spacing)
        self._now = 0
        self._arrange(self._columns[0])

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Choose the number of columns."""
        super().resizeEvent(event)
        width = event.size().width() + self._grid.spacing()
        fitting = [n for n in self._columns if width >= n * (self._least + self._grid.spacing())]
        self._arrange(fitting[0] if fitting else self._columns[-1])

    def _arrange(self, columns: int) -> None:
        if columns == self._now:
            return
        for index, widget in enumerate(self._widgets):
            self._grid.addWidget(widget, index // columns, index % columns)
        for index in range(max(columns, self._now)):
            self._grid.setColumnStretch(index, 1 if index < columns else 0)
        self._now = columns
