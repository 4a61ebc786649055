"""Tells the user that something has ended while they looked elsewhere."""

from PySide6.QtWidgets import QApplication, QSystemTrayIcon, QWidget

_SECONDS = 10


class Notifier:
    """Notifies through the desktop where it can, and by the window's own mark in any case."""

    def __init__(self, window: QWidget) -> None:
        self._window = window
        self._tray: QSystemTrayIcon | None = None

    def tell(self, title: str, text: str) -> None:
        """Say something, unless the user looks at the window anyway."""
        if self._window.isActiveWindow():
            return
        QApplication.alert(self._window)
        if not QSystemTrayIcon.isSystemTrayAvailable() or not QSystemTrayIcon.supportsMessages():
            return
        if self._tray is None:
            self._tray = QSystemTrayIcon(self._window.windowIcon(), self._window)
        self._tray.show()
        self._tray.showMessage(title, text, self._window.windowIcon(), _SECONDS * 1000)
