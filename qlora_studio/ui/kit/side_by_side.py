"""Two parts beside each other, or one below the other where the room is narrow."""

from PySide6.QtCore import QSize
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QSizePolicy, QWidget

from qlora_studio.ui.kit.widgets import row

BREAKPOINT = 700


class SideBySide(QWidget):
    """Lays out parts in a row from `breakpoint` pixels on, in a column below that. `shares` divides the row."""

    def __init__(
        self, *parts: QWidget, shares: tuple[int, ...] = (), breakpoint: int = BREAKPOINT, spacing: int = 14
    ) -> None:
        super().__init__()
        self._breakpoint = breakpoint
        self._shares = shares or (1,) * len(parts)
        self._box: QBoxLayout = row(self, spacing=spacing)
        for part in parts:
            part.setSizePolicy(QSizePolicy.Policy.Ignored, part.sizePolicy().verticalPolicy())
            self._box.addWidget(part)
        self._arrange(wide=True)

    def minimumSizeHint(self) -> QSize:
        """Ask for no width: the parts go below each other first."""
        return QSize(0, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Turn the row into a column, or back."""
        super().resizeEvent(event)
        wide = event.size().width() >= self._breakpoint
        if wide != (self._box.direction() == QBoxLayout.Direction.LeftToRight):
            self._arrange(wide=wide)

    def _arrange(self, *, wide: bool) -> None:
        directions = QBoxLayout.Direction
        self._box.setDirection(directions.LeftToRight if wide else directions.TopToBottom)
        for index, share in enumerate(self._shares):
            self._box.setStretch(index, share if wide else 0)
