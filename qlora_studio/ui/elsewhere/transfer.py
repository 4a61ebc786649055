"""A run on its way to a place, beside the event loop: how far it is, and the stop."""

import threading
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.core.errors import StudioError
from qlora_studio.jobs.elsewhere.sending import Sending
from qlora_studio.jobs.elsewhere.submission import submit
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.state.background import Background

_PROGRESS_MILLISECONDS = 100


class Transfer(QObject):
    """A run on its way to a place.

    Signals:
        moved: bytes that are there, and of how many.
        sent: the run's folder here.
        failed: a StudioError; nothing is left then, here or there, or it says what.
    """

    moved = Signal(int, int)
    sent = Signal(object)
    failed = Signal(object)

    def __init__(self, sending: Sending, runs: Path, parent: QObject) -> None:
        super().__init__(parent)
        self._sending, self._runs = sending, runs
        self._stop = threading.Event()
        self._done = 0
        self._sender = Background(self)
        self._sender.answered.connect(self._on_answered)
        self._sender.failed.connect(self._on_failed)
        self._clock = QTimer(self)
        self._clock.setInterval(_PROGRESS_MILLISECONDS)
        self._clock.timeout.connect(self._tell)

    def begin(self) -> None:
        """Send it."""
        self._tell()
        self._clock.start()
        self._sender.ask(submit, self._sending, self._runs, self._stop, self._note)

    def stop(self) -> None:
        """Do not go on; that is told as a failure once nothing is left."""
        self._stop.set()

    def _note(self, done: int, _total: int) -> None:
        """Take how far it is, in the thread that sends."""
        self._done = done

    def _tell(self) -> None:
        self.moved.emit(self._done, self._sending.size_bytes)

    def _on_answered(self, folder: RunFolder) -> None:
        self._clock.stop()
        self.sent.emit(folder)
        self.deleteLater()

    def _on_failed(self, error: StudioError) -> None:
        self._clock.stop()
        self.failed.emit(error)
        self.deleteLater()
