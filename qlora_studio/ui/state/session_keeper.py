"""Keeps what the next start takes up: saved a moment after each change, beside the event loop, and when all ends."""

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.events import Event
from qlora_studio.core.run.reports import DatasetReported
from qlora_studio.storage.session import Session, save_session
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.draft import DraftStore
from qlora_studio.ui.state.estimates import EstimateControl, FoundModel
from qlora_studio.ui.state.run_control import RunControl
from qlora_studio.ui.state.run_store import RunStore

_SETTLE_MILLISECONDS = 1000


class SessionKeeper(QObject):
    """Holds the session of the window.

    Signals:
        failed: it cannot be saved; carries a StudioError.
    """

    failed = Signal(object)

    def __init__(self, parent: QObject, session: Session) -> None:
        super().__init__(parent)
        self.session = self._saved = session
        self._has_failed = False
        self._used = ""  # the run whose model and datasets were kept last
        self._saving = Background(self)
        self._saving.failed.connect(self._on_saving_failed)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(_SETTLE_MILLISECONDS)
        self._settle.timeout.connect(self._save)

    def follow(self, draft: DraftStore, runs: RunControl, estimates: EstimateControl, data: RunStore) -> None:
        """Keep what changes from now on: the draft, the run that is shown, the models and datasets that were found."""
        draft.changed.connect(lambda config: self.take(self.session.with_draft(config)))
        runs.changed.connect(lambda: self._keep_run(runs))
        estimates.model_found.connect(self._on_model_found)
        data.events_applied.connect(lambda events: self._keep_datasets(events, draft.config))

    def take(self, session: Session) -> None:
        """Keep another session, and save it in a moment."""
        if session != self.session:
            self.session = session
            self._settle.start()

    def keep_page(self, name: str) -> None:
        """Keep which page is at the front."""
        self.take(self.session.model_copy(update={"page": name}))

    def end(self) -> None:
        """Save at once; what cannot be saved now was told before."""
        self._settle.stop()
        self._saving.forget()
        if self.session != self._saved:
            try:
                save_session(self.session)
            except StudioError:
                return
            self._saved = self.session

    def _save(self) -> None:
        self._saved = self.session
        self._saving.ask(save_session, self.session)

    def _on_saving_failed(self, error: StudioError) -> None:
        self._saved = Session()
        if not self._has_failed:  # once: it would be told again with every letter that is typed
            self._has_failed = True
            self.failed.emit(error)

    def _keep_run(self, runs: RunControl) -> None:
        shown, session = runs.shown, self.session
        path = str(shown.folder.path) if shown is not None else ""
        if path != session.run:
            session = session.model_copy(update={"run": path})
        if shown is not None and shown.store.config and path != self._used and shown.is_at_work():
            self._used = path  # once: what is chosen for another run meanwhile is more recent
            session = session.with_used(shown.store.config)
        if session is not self.session:
            self.take(session)

    def _on_model_found(self, found: FoundModel) -> None:
        if found.facts is not None:
            self.take(self.session.with_recent(model=found.location.source))

    def _keep_datasets(self, events: tuple[Event, ...], config: RunConfig) -> None:
        if any(isinstance(event, DatasetReported) for event in events):
            for source in reversed(config.data.sources):
                self.take(self.session.with_recent(dataset=source.path))
