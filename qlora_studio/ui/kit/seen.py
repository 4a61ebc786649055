"""What is not seen is not drawn: a page behind another, a folded panel, a minimised window wait until they are."""

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject
from PySide6.QtWidgets import QWidget

from qlora_studio.ui.kit.layouts import still

_COMES_BACK = (QEvent.Type.Show, QEvent.Type.WindowStateChange)


class WhenSeen(QObject):
    """Calls `render` when asked, where `widget` is seen; else once, as soon as it is seen again.

    `render` shows how things are then, so that whatever was asked meanwhile is in it.
    """

    def __init__(self, widget: QWidget, render: Callable[[], object]) -> None:
        super().__init__(widget)
        self._widget, self._render = widget, render
        self._owed = False
        for watched in {widget, widget.window()}:
            watched.installEventFilter(self)

    def ask(self) -> None:
        """Render now, or later."""
        self._owed = not is_seen(self._widget)
        if not self._owed:
            with still(self._widget):
                self._render()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Render what is owed."""
        if self._owed and event.type() in _COMES_BACK:
            self.ask()
        return False


def is_seen(widget: QWidget) -> bool:
    """Whether a widget is on the screen, as far as the program knows: other windows may lie over it."""
    return widget.isVisible() and not widget.window().isMinimized()
