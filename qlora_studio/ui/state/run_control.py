"""The runs that the window follows: starts, resumes, asks and leaves their workers. The Run page shows one of them."""

from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import problems_before_start
from qlora_studio.core.errors import FailureKind, InvalidRunConfig, StudioError
from qlora_studio.core.run.commands import Command, Resume, Stop
from qlora_studio.core.words import say
from qlora_studio.jobs.elsewhere.submission import submit_again
from qlora_studio.jobs.idle_worker import IdleWorker
from qlora_studio.jobs.worker_ending import end_worker
from qlora_studio.storage.runs import trust
from qlora_studio.storage.runs.elsewhere_record import ElsewhereRecord, known_record
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.ui.state.asked import Asked
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.job_thread import TrainingThread
from qlora_studio.ui.state.run_store import RunStore

_LOOK_MILLISECONDS = 1000


class RunSession(QObject):
    """A run with its store and, while it is followed, its thread. `objection` is why it may give no orders, or None.

    `asked` is what its worker was asked last in this session, or None; `is_submitting` whether a run that is elsewhere
    is just being handed to its scheduler again.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, idle: IdleWorker | None, parent: QObject) -> None:
        super().__init__(parent)
        self._idle = idle
        self.folder = folder
        self.store = RunStore()
        self.store.open(folder, config)
        self.objection = trust.objection(folder.path)
        self.follower: TrainingThread | None = None
        self._left_at: int | None = None  # bytes of the events that were followed to their end
        self.asked: Asked | None = None
        self.is_elsewhere = known_record(folder.path) is not None
        self.is_submitting = False

    def follow(self, *, start_it: bool, initial_commands: tuple[Command, ...] = (), gpus: str = "") -> None:
        """Follow the run from its first event; with `start_it`, start its worker, which finds `initial_commands`.

        `gpus` stands for the run's `hardware.gpus` this time.
        """
        self.leave()
        self.asked = None
        self.store.open(self.folder, self.store.config)
        self.follower = TrainingThread(
            self.folder,
            start_it=start_it,
            initial_commands=initial_commands,
            gpus=gpus,
            idle=self._idle,
            parent=self,
        )
        self.follower.events_received.connect(self.store.take)
        self.follower.start()

    @property
    def elsewhere(self) -> ElsewhereRecord | None:
        """Where the run is, as it stands on record now; None for one of this computer."""
        return known_record(self.folder.path) if self.is_elsewhere else None

    def look_again(self) -> None:
        """Follow the run again where more is told since it was followed to its end: another window goes on with it."""
        if self.follower is None or self.follower.isRunning():
            self._left_at = None
            return
        size = self.folder.events_path.stat().st_size if self.folder.events_path.exists() else 0
        before, self._left_at = self._left_at, size
        if before is not None and size > before:
            self.follow(start_it=False)

    def leave(self) -> None:
        """Stop following; the worker goes on."""
        if self.follower is not None:
            self.store.forget()
            self.follower.leave()
            self.follower = None

    def is_at_work(self) -> bool:
        """Whether a worker is at work, or about to be."""
        return self.follower is not None and self.follower.isRunning() and not self._is_over()

    def _is_over(self) -> bool:
        state = self.store.state
        return state.phase.is_over and state.last_event > 0


class RunControl(QObject):
    """All runs that are followed, and which of them is shown. One that is started takes the worker of `idle`.

    Signals:
        changed: the shown run changed, or another one is shown.
        worked: a run that is at work changed.
        failed: what was asked could not be done; carries a StudioError.
    """

    changed = Signal()
    worked = Signal()
    failed = Signal(object)

    def __init__(self, idle: IdleWorker | None = None) -> None:
        super().__init__()
        self._idle = idle
        self._sessions: dict[Path, RunSession] = {}
        self._ending = Background(self)
        self._submitter = Background(self)
        self._submitter.answered.connect(self._on_submitted)
        self._submitter.failed.connect(self._on_not_submitted)
        self.shown: RunSession | None = None
        self._others = QTimer(self)
        self._others.setInterval(_LOOK_MILLISECONDS)
        self._others.timeout.connect(self._look_for_others)
        self._others.timeout.connect(self.look_at_names)
        self._others.start()

    def start(self, config: RunConfig, runs: Path) -> bool:
        """Create a run and start it; return whether that went well."""
        try:
            if problems := problems_before_start(config):
                raise InvalidRunConfig(problems)
            folder = create_run_folder(runs, config)
        except StudioError as error:
            self.failed.emit(error)
            return False
        return self.open(folder, start_it=True)

    def open(
        self,
        folder: RunFolder,
        *,
        start_it: bool = False,
        initial_commands: tuple[Command, ...] = (),
        gpus: str = "",
    ) -> bool:
        """Show a run: live where its worker lives, else as it was; with `start_it`, go on, by `initial_commands`."""
        try:
            if start_it:
                trust.trusted_text(folder.path)
            session = self._session(folder)
        except StudioError as error:
            self.failed.emit(error)
            return False
        self._show(session)
        if start_it and (record := session.elsewhere) is not None and not record.open:
            self._submit_again(session, initial_commands)
        elif start_it or session.follower is None:
            session.follow(start_it=start_it, initial_commands=initial_commands, gpus=gpus)
        return True

    def look_at_trust(self, folder: RunFolder) -> None:
        """Show what a run may do now that it is trusted."""
        if (session := self._sessions.get(folder.path.resolve())) is not None:
            session.objection = trust.objection(folder.path)
            self.changed.emit()

    def look_at_names(self) -> None:
        """Call each run as its user does now: the names may change in this window, another one, or by a command."""
        for session in self._sessions.values():
            session.store.look_at_name()

    def forget(self, folder: RunFolder) -> None:
        """Show the run no more, and follow it no more."""
        if (session := self._sessions.get(folder.path.resolve())) is not None:
            self._forget(session)

    def resume(self, *initial_commands: Command, gpus: str = "") -> None:
        """Go on with the shown run: tell a worker that waits for space, or start one from the newest safe checkpoint.

        `initial_commands` are what a new worker is told first; `gpus` stands for the run's `hardware.gpus` this time.
        """
        if self.shown is None:
            return
        if not self.shown.is_at_work():
            self.open(self.shown.folder, start_it=True, initial_commands=initial_commands, gpus=gpus)
        elif not initial_commands:
            self.send(Resume())

    def send(self, command: Command) -> None:
        """Ask something of the shown run's worker."""
        if self.shown is not None:
            self._send(self.shown, command)

    def end_now(self) -> None:
        """End the shown run's worker without its help; its checkpoints stay."""
        if self.shown is not None and self.shown.store.state.pid and not self.shown.is_elsewhere:
            self._ending.ask(end_worker, self.shown.folder, self.shown.store.state.pid)
            self._note(self.shown, None)

    def stop_all(self) -> None:
        """Ask every worker to save and end."""
        for session in self.at_work():
            self._send(session, Stop(save=True))

    def at_work(self) -> tuple[RunSession, ...]:
        """Return the runs whose workers are at work on this computer: on its cards, by its processes."""
        return tuple(session for session in self.at_work_anywhere() if not session.is_elsewhere)

    def at_work_anywhere(self) -> tuple[RunSession, ...]:
        """Return the runs that are at work, here or elsewhere."""
        return tuple(session for session in self._sessions.values() if session.is_at_work())

    def leave_all(self) -> None:
        """Stop following; the workers go on."""
        self._others.stop()
        for session in self._sessions.values():
            session.leave()

    def _submit_again(self, session: RunSession, initial_commands: tuple[Command, ...]) -> None:
        """Hand a run that is elsewhere to its scheduler again, beside the event loop."""
        if not any(other.is_submitting for other in self._sessions.values()):
            session.is_submitting = True
            self._submitter.ask(_submitted, session.folder, initial_commands)
            self._on_store_changed(session)

    def _on_submitted(self, folder: RunFolder) -> None:
        self._end_submitting()
        self.open(folder, start_it=True)

    def _on_not_submitted(self, error: StudioError) -> None:
        self._end_submitting()
        self.failed.emit(error)

    def _end_submitting(self) -> None:
        for session in self._sessions.values():
            if session.is_submitting:
                session.is_submitting = False
                self._on_store_changed(session)

    def _look_for_others(self) -> None:
        """See whether another window goes on with the run that is shown as ended here, or its folder is gone."""
        if self.shown is None:
            return
        if self.shown.is_at_work() or self.shown.folder.config_path.exists():
            self.shown.look_again()
            return
        path = self.shown.folder.path
        self._forget(self.shown)
        text = say("The run in {path} is not there any more: its folder was moved or removed.", path=path)
        self.failed.emit(StudioError(text, kind=FailureKind.RUN_NOT_FOUND, advice=say("Open another run.")))

    def _forget(self, session: RunSession) -> None:
        self._sessions = {path: other for path, other in self._sessions.items() if other is not session}
        session.leave()
        self.shown = None if self.shown is session else self.shown
        session.deleteLater()
        self.changed.emit()

    def _session(self, folder: RunFolder) -> RunSession:
        path = folder.path.resolve()
        if path not in self._sessions:
            session = self._sessions[path] = RunSession(folder, folder.config(), self._idle, self)
            session.store.changed.connect(lambda: self._on_store_changed(session))
        return self._sessions[path]

    def _show(self, session: RunSession) -> None:
        before, self.shown = self.shown, session
        if before is not None and before is not session and not before.is_at_work():
            self._sessions.pop(before.folder.path.resolve(), None)
            before.leave()
            before.deleteLater()
        self.changed.emit()

    def _send(self, session: RunSession, command: Command) -> None:
        try:
            session.folder.send(command)
        except OSError as error:
            text = say(
                "Cannot write to {path}: {strerror}.", path=session.folder.path, strerror=error.strerror or error
            )
            self.failed.emit(
                StudioError(text, kind=FailureKind.NOT_WRITABLE, advice=say("Check the folder's permissions."))
            )
        else:
            self._note(session, command)

    def _note(self, session: RunSession, command: Command | None) -> None:
        session.asked = Asked(command, session.store.state)
        self._on_store_changed(session)

    def _on_store_changed(self, session: RunSession) -> None:
        if session is self.shown:
            self.changed.emit()
        self.worked.emit()


def _submitted(folder: RunFolder, initial_commands: tuple[Command, ...]) -> RunFolder:
    """Hand a run to its scheduler again, and return it. Raises StudioError."""
    submit_again(folder, initial_commands)
    return folder
