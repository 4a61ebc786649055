"""One job besides training: a data preview, an export, a chat, a download. A new one takes the place of the old."""

from pathlib import Path

from PySide6.QtCore import QObject, Signal

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import Command, Stop
from qlora_studio.core.run.events import Failed
from qlora_studio.core.run.job import Job
from qlora_studio.core.words import say
from qlora_studio.storage.runs.run_folder import create_job_folder
from qlora_studio.ui.state.job_thread import JobThread
from qlora_studio.ui.state.run_store import RunStore


class JobControl(QObject):
    """Starts a job and follows it. `stopping` is whether it was asked to stop and has not yet.

    Signals:
        failed: what was asked could not be done; carries a StudioError. A job that fails says so in its state.
    """

    failed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.store = RunStore()
        self.job: Job | None = None
        self.stopping = False
        self._thread: JobThread | None = None

    def start(self, parent: Path, job: Job) -> bool:
        """Start a job in a folder of its own under `parent`; return whether that went well."""
        self.end()
        self.stopping = False
        try:
            folder = create_job_folder(parent, job)
        except StudioError as error:
            self.failed.emit(error)
            self.store.open(None)
            self.store.take((Failed(kind=error.kind, message=error.message, advice=error.advice),))
            return False
        self.job = job
        self.store.open(folder)
        self._thread = JobThread(folder, start_it=True, parent=self)
        self._thread.events_received.connect(self.store.take)
        self._thread.start()
        return True

    def send(self, command: Command) -> None:
        """Ask something of the job's worker."""
        if self.store.folder is None:
            return
        try:
            self.store.folder.send(command)
        except OSError as error:
            self.failed.emit(
                StudioError(
                    say("Cannot write to {path}: {error}.", path=self.store.folder.path, error=error),
                    kind=FailureKind.NOT_WRITABLE,
                )
            )

    def stop(self) -> None:
        """Ask the job to end, leaving nothing half-made; that it will is said at once."""
        self.send(Stop(save=False))
        self.stopping = True
        self.store.changed.emit()

    def is_at_work(self) -> bool:
        """Whether the job's worker is at work, or about to be."""
        return self._thread is not None and self._thread.isRunning() and not self._is_over()

    def end(self) -> None:
        """End the job now, and wait for nothing: nothing of value is lost with it, and nothing said of it any more."""
        if self._thread is not None:
            self._leave(end_worker=True)
            self.stopping = False
            self.store.open(None)

    def leave(self) -> None:
        """Stop following; the worker goes on."""
        self._leave(end_worker=False)

    def _leave(self, *, end_worker: bool) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self.store.forget()
            thread.leave(end_worker=end_worker)

    def _is_over(self) -> bool:
        return self.store.state.phase.is_over and self.store.state.last_event > 0
