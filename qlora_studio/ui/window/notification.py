"""Tells the user that something has ended while they looked elsewhere."""

import sys

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QApplication, QSystemTrayIcon, QWidget

from qlora_studio.core.run.run_state import phase_text
from qlora_studio.ui.kit.desktop.bus import notify_desktop
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.run_control import RunSession
from qlora_studio.ui.state.studio import Studio

_SECONDS = 10


class Notifier(QObject):
    """Notifies through the desktop where it can, and by the window's own mark in any case."""

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self._window = window
        self._tray: QSystemTrayIcon | None = None
        self._words = ("", "")
        self._bus = Background(self)
        self._bus.answered.connect(self._on_bus_answered)

    def tell(self, title: str, text: str) -> None:
        """Say something, unless the user looks at the window anyway."""
        if self._window.isActiveWindow():
            return
        QApplication.alert(self._window)
        self._words = (title, text)
        if sys.platform == "linux":
            self._bus.ask(notify_desktop, QApplication.desktopFileName(), title, text)
        else:
            self._tell_by_tray()

    def _on_bus_answered(self, taken: bool) -> None:
        if not taken:
            self._tell_by_tray()

    def _tell_by_tray(self) -> None:
        if not QSystemTrayIcon.isSystemTrayAvailable() or not QSystemTrayIcon.supportsMessages():
            return
        if self._tray is None:
            self._tray = QSystemTrayIcon(self._window.windowIcon(), self._window)
        self._tray.show()
        self._tray.showMessage(*self._words, self._window.windowIcon(), _SECONDS * 1000)


class EndingNotifier(QObject):
    """Tells when a run has ended, and when the queue is done."""

    def __init__(self, studio: Studio, window: QWidget) -> None:
        super().__init__(window)
        self._studio = studio
        self._notifier = Notifier(window)
        self._working: tuple[RunSession, ...] = ()
        studio.runs.worked.connect(self._on_runs_worked)
        studio.queue.ended.connect(self._on_queue_ended)

    def _on_queue_ended(self, text: str) -> None:
        self._tell("QLoRA Studio", text)

    def _tell(self, title: str, text: str) -> None:
        if self._studio.settings.tell_endings:
            self._notifier.tell(title, text)

    def _on_runs_worked(self) -> None:
        working = self._studio.runs.at_work_anywhere()
        for session in self._working:
            if session not in working and session.store.config is not None:
                self._tell(session.store.name, phase_text(session.store.state))
        self._working = working
