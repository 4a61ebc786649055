"""What is asked of a run elsewhere, beside the event loop: its job is cancelled, its adapter is brought here."""

from PySide6.QtCore import QObject, Signal

from qlora_studio.core.errors import StudioError
from qlora_studio.core.words import say
from qlora_studio.jobs.elsewhere.acts import cancel_job, fetch
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.state.background import Background


class ElsewhereActs(QObject):
    """One act at a time.

    Signals:
        changed: what is under way has begun or ended.
        failed: what was asked could not be done; carries a StudioError.
    """

    changed = Signal()
    failed = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._doing: tuple[RunFolder, str] | None = None
        self._canceller, self._fetcher = Background(self), Background(self)
        self._canceller.answered.connect(self._on_ended)
        self._fetcher.answered.connect(self._on_ended)
        self._canceller.failed.connect(self._on_failed)
        self._fetcher.failed.connect(self._on_failed)

    def doing(self, folder: RunFolder) -> str:
        """Return what is under way for a run, in words."""
        return self._doing[1] if self._doing is not None and self._doing[0].path == folder.path else ""

    def cancel(self, folder: RunFolder) -> None:
        """Take the run's job away from its scheduler."""
        if self._begin(folder, say("Cancelling the job …")):
            self._canceller.ask(cancel_job, folder)

    def bring(self, folder: RunFolder, checkpoint: str) -> None:
        """Bring an adapter here: `final`, or `best`."""
        if self._begin(folder, say("Bringing it here …")):
            self._fetcher.ask(fetch, folder, checkpoint)

    def _begin(self, folder: RunFolder, words: str) -> bool:
        if self._doing is not None:
            return False
        self._doing = (folder, words)
        self.changed.emit()
        return True

    def _on_ended(self) -> None:
        self._doing = None
        self.changed.emit()

    def _on_failed(self, error: StudioError) -> None:
        self._on_ended()
        self.failed.emit(error)
