"""The starter model on its way: beside the event loop, looked at some times a second, and stopped by a click."""

import threading
from collections.abc import Callable

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.core.errors import StudioError
from qlora_studio.jobs.package_install import install_watched
from qlora_studio.storage.models.location import starter_that_came, starter_words
from qlora_studio.ui.state.background import Background

_LOOK_MILLISECONDS = 250


class StarterFetch(QObject):
    """Fetches it, once at a time.

    Signals:
        changed: it began, came nearer, or is over.
        came: it is installed.
        failed: the StudioError that says why it is not.
    """

    changed = Signal()
    came = Signal()
    failed = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.coming: int | None = None  # bytes, while it is on its way
        self._stop = threading.Event()
        self._told = 0
        self._background = Background(self)
        self._background.answered.connect(self._on_came)
        self._background.failed.connect(self._on_failed)
        self._looks = QTimer(self)
        self._looks.setInterval(_LOOK_MILLISECONDS)
        self._looks.timeout.connect(self._look)
        parent.destroyed.connect(self._give_up)  # a window that is closed waits for nothing

    def begin(self) -> None:
        """Fetch it."""
        self._stop, self._told = threading.Event(), 0
        self._background.ask(_fetch, self._tell, self._stop)
        self._looks.start()
        self._look()

    def stop(self) -> None:
        """Give it up."""
        self._give_up()
        self._background.forget()
        self._be_over()

    def _give_up(self) -> None:
        self._stop.set()

    def _tell(self, done: int) -> None:
        """Take down how far it is, in the thread that fetches: no signal is sent from there."""
        self._told = max(self._told, done)

    def _look(self) -> None:
        if self.coming != self._told:
            self.coming = self._told
            self.changed.emit()

    def _on_came(self, _nothing: object) -> None:
        self._be_over()
        self.came.emit()

    def _on_failed(self, error: StudioError) -> None:
        self._be_over()
        self.failed.emit(error)

    def _be_over(self) -> None:
        self._looks.stop()
        self.coming = None
        self.changed.emit()


def _fetch(tell: Callable[[int], None], stop: threading.Event) -> None:
    install_watched(starter_words(), tell, stop)
    starter_that_came()
