"""Connects the Run page to the runs: what it shows, and what its buttons ask of the worker."""

from PySide6.QtCore import QObject, QUrl
from PySide6.QtGui import QDesktopServices

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.path_text import whole_path
from qlora_studio.core.run.commands import EvaluateNow, Pause, SaveCheckpoint, Stop
from qlora_studio.core.words import say
from qlora_studio.storage.durable import MANIFEST
from qlora_studio.storage.runs.parent_adapter import run_around
from qlora_studio.ui.elsewhere.acts import ElsewhereActs
from qlora_studio.ui.elsewhere.view import ElsewhereView, run_elsewhere
from qlora_studio.ui.kit.seen import WhenSeen
from qlora_studio.ui.run.page import RunPage
from qlora_studio.ui.run.recovery_action import RecoveryAction
from qlora_studio.ui.state.run_control import RunSession
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.dialogs import ask_cancel_job, ask_end_worker, ask_go_on, ask_stop_unsaved, ask_trust
from qlora_studio.ui.window.main_window import MainWindow


class RunWiring(QObject):
    """The Run page with the runs behind it."""

    def __init__(self, studio: Studio, window: MainWindow, page: RunPage) -> None:
        super().__init__(window)
        self._studio, self._runs, self._window, self._page = studio, studio.runs, window, page
        self._seen = WhenSeen(page, self._render)
        studio.runs.changed.connect(self._seen.ask)
        page.pause_requested.connect(lambda: self._runs.send(Pause()))
        page.checkpoint_requested.connect(lambda: self._runs.send(SaveCheckpoint()))
        page.evaluation_requested.connect(lambda: self._runs.send(EvaluateNow()))
        page.resume_requested.connect(lambda: self._runs.resume())
        page.recovery_action_requested.connect(self._on_recovery_action_requested)
        page.stop_requested.connect(self._on_stop_requested)
        page.kill_requested.connect(self._on_kill_requested)
        page.folder_requested.connect(self._on_folder_requested)
        page.parent_requested.connect(self._on_parent_requested)
        page.trust_requested.connect(self._on_trust_requested)
        self._acts = ElsewhereActs(self)
        self._acts.changed.connect(self._seen.ask)
        self._acts.failed.connect(page.show_error)
        page.cancel_requested.connect(self._on_cancel_requested)
        page.bring_requested.connect(self._on_bring_requested)
        page.page_requested.connect(window.show_page)
        window.status_line.clicked.connect(self._on_status_clicked)

    def _render(self) -> None:
        session = self._runs.shown
        if session is None:
            self._page.render_nothing()
            return
        objection = session.objection.message if session.objection else ""
        self._page.render_run(session.store, objection, session.asked, self._elsewhere(session))

    def _elsewhere(self, session: RunSession) -> ElsewhereView | None:
        record = session.elsewhere
        if record is None:
            return None
        is_here = (session.folder.adapter_path / MANIFEST).exists()
        doing = say("Handing the job to {place} again …", place=record.place) if session.is_submitting else ""
        doing = doing or self._acts.doing(session.folder)
        return run_elsewhere(session.store.state, place=record.place, is_open=record.open, is_here=is_here, doing=doing)

    def _on_cancel_requested(self) -> None:
        session = self._runs.shown
        record = session.elsewhere if session is not None else None
        if session is None or record is None:
            return
        if ask_cancel_job(self._window, session.store.name, record.place):
            self._acts.cancel(session.folder)

    def _on_bring_requested(self, checkpoint: str) -> None:
        if self._runs.shown is not None:
            self._acts.bring(self._runs.shown.folder, checkpoint)

    def _on_stop_requested(self, save: bool) -> None:
        session = self._runs.shown
        if session is None or session.store.config is None:
            return
        if save or self._agrees(session, ask_stop_unsaved(self._window, session.store.name)):
            self._runs.send(Stop(save=save))

    def _on_recovery_action_requested(self, way: RecoveryAction) -> None:
        session = self._runs.shown
        if session is None or session.store.config is None:
            return
        if not way.question or self._agrees(session, ask_go_on(self._window, session.store.name, way.question)):
            self._runs.resume(*([way.command] if way.command else []), gpus=way.gpus)

    def _on_trust_requested(self) -> None:
        session = self._runs.shown
        if session is not None and session.store.config:
            name = session.store.name
            self._studio.trust(session.folder, lambda lines: ask_trust(self._window, name, lines))

    def _on_kill_requested(self) -> None:
        session = self._runs.shown
        if session is None or session.store.config is None:
            return
        if self._agrees(session, ask_end_worker(self._window, session.store.name)):
            self._runs.end_now()

    def _agrees(self, asked_of: RunSession, answer: bool) -> bool:
        """Whether the answer is yes, and of the run that is shown: the queue may have brought another one meanwhile."""
        return answer and self._runs.shown is asked_of

    def _on_folder_requested(self) -> None:
        if self._runs.shown is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._runs.shown.folder.path)))

    def _on_parent_requested(self) -> None:
        session = self._runs.shown
        if session is None or session.store.config is None:
            return
        parent = run_around(whole_path(session.store.config.lora.start_from))
        if parent is None:
            gone = say("The run that this one goes on from is not where it was.")
            self._page.show_error(StudioError(gone, kind=FailureKind.RUN_NOT_FOUND))
        else:
            self._runs.open(parent)

    def _on_status_clicked(self) -> None:
        if self._runs.shown is not None:
            self._window.show_page("run")
