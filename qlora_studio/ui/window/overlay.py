"""A card over the window for a moment: Esc, or a click beside it, takes it away and gives the focus back."""

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QApplication, QWidget
from shiboken6 import isValid

from qlora_studio.ui.kit.theme import active_theme
from qlora_studio.ui.kit.widgets import Card, column

_TOP, _MARGIN = 56, 24
_VEIL = 0.55


class Overlay(QWidget):
    """Covers the window with a veil, and holds `card` near the top of it."""

    def __init__(self, window: QWidget, title: str, *, width: int) -> None:
        super().__init__(window)
        self.setAccessibleName(title)
        self.card = Card()
        self._width = width
        self._before: QWidget | None = None
        box = column(self, margins=(_MARGIN, _TOP, _MARGIN, _MARGIN))
        box.addWidget(self.card, 0, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop)
        window.installEventFilter(self)
        self.hide()

    def open(self, field: QWidget) -> None:
        """Come up, with the focus in a field."""
        before = QApplication.focusWidget()
        if not self.isVisible():
            self._before = before
        self._fit()
        self.raise_()
        self.show()
        field.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def close_again(self) -> None:
        """Go, and put the focus back where it was."""
        before, self._before = self._before, None
        self.hide()
        if before is not None and isValid(before) and before.isVisible():
            before.setFocus(Qt.FocusReason.OtherFocusReason)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Stay as large as the window."""
        if event.type() == QEvent.Type.Resize and self.isVisible():
            self._fit()
        return False

    def focusNextPrevChild(self, next: bool) -> bool:
        """Keep the focus from wandering off below the veil; once that is gone, it goes on to what is seen."""
        return self.isVisible() or super().focusNextPrevChild(next)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Go at Esc; no key reaches what lies below."""
        if event.key() == Qt.Key.Key_Escape:
            self.close_again()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go where the click is beside the card."""
        if not self.card.geometry().contains(event.position().toPoint()):
            self.close_again()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the veil."""
        painter, veil = QPainter(self), active_theme().color("background")
        veil.setAlphaF(_VEIL)
        painter.fillRect(self.rect(), veil)
        painter.end()

    def _fit(self) -> None:
        window = self.parentWidget()
        assert window is not None
        self.setGeometry(window.rect())
        self.card.setFixedWidth(min(self._width, self.width() - 2 * _MARGIN))
        self.card.setMaximumHeight(self.height() - _TOP - _MARGIN)
