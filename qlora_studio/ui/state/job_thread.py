"""Threads that follow a worker from the window's side. They contain no training: the worker is another process."""

import contextlib
import threading

from PySide6.QtCore import QObject, QThread, Signal

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import Command
from qlora_studio.core.run.events import Event, Failed
from qlora_studio.jobs.elsewhere.mirror_process import require_mirror
from qlora_studio.jobs.idle_worker import IdleWorker
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.trust import NotTrusted

_STOP_MILLISECONDS = 5000
_left: "set[JobThread]" = set()  # threads that are on their way out, which nobody else keeps any more


class JobThread(QThread):
    """Follows one job and re-emits its events in the window's thread.

    With `start_it` it starts the worker first; without, it re-attaches to one that lives, or replays one that ended.

    Signals:
        events_received: a tuple of events, in order, none skipped; none any more once it is left.
    """

    events_received = Signal(tuple)
    _read = Signal(tuple)

    def __init__(
        self,
        folder: RunFolder,
        *,
        start_it: bool,
        initial_commands: tuple[Command, ...] = (),
        gpus: str = "",
        idle: IdleWorker | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.folder = folder
        self.process: WorkerProcess | None = None
        self._start_it = start_it
        self._initial_commands, self._gpus, self._idle = initial_commands, gpus, idle
        self._leaving, self._ends_worker = threading.Event(), False
        self._read.connect(self._on_read)

    def run(self) -> None:
        """Start the worker where that is asked, and emit its events until its session ends."""
        try:
            if self._start_it:
                self._start_worker()
            else:
                self._require_mirror()
            for batch in RunFollower(self.folder, self.process).batches(self._leaving):
                self._read.emit(batch)
        except StudioError as error:
            failed = Failed(kind=error.kind, message=error.message, advice=error.advice, detail=error.detail)
            self._read.emit((failed,))
        if self._ends_worker and self.process is not None:
            self.process.terminate()

    def _require_mirror(self) -> None:
        """Have a run followed that is elsewhere; one that is not trusted is only looked at."""
        with contextlib.suppress(NotTrusted):
            require_mirror(self.folder)

    def _start_worker(self) -> None:
        """Start the worker; where another window was faster, its worker is followed, for the run is well."""
        try:
            self.process = start_worker(
                self.folder, initial_commands=self._initial_commands, gpus=self._gpus, idle=self._idle
            )
        except StudioError as error:
            if error.kind is not FailureKind.RUN_BUSY or self.folder.job_path.exists():
                raise

    def _on_read(self, batch: tuple[Event, ...]) -> None:
        """Hand on what was read, in the window's thread, where it may have been left meanwhile."""
        if not self._leaving.is_set():
            self.events_received.emit(batch)

    def leave(self, *, end_worker: bool = False) -> None:
        """Stop following, at once; the worker goes on, unless it is to end with that. The thread deletes itself."""
        self._ends_worker = end_worker
        self._leaving.set()
        self.setParent(None)
        _left.add(self)
        self.finished.connect(self._on_finished)
        if self.isFinished():
            if end_worker and self.process is not None:
                self.process.terminate()
            self._on_finished()

    def _on_finished(self) -> None:
        if self in _left:
            _left.remove(self)
            self.deleteLater()


def wait_for_threads() -> None:
    """Wait until every thread that was left has ended, and its worker where that ends, too."""
    for thread in tuple(_left):
        thread.wait(_STOP_MILLISECONDS)


class TrainingThread(JobThread):
    """Owns a training run from the window's side: starts its worker, or re-attaches to it, and follows it."""

    def __init__(
        self,
        folder: RunFolder,
        *,
        start_it: bool | None = None,
        initial_commands: tuple[Command, ...] = (),
        gpus: str = "",
        idle: IdleWorker | None = None,
        parent: QObject | None = None,
    ) -> None:
        """`start_it` of None means: re-attach where a worker lives. It finds `initial_commands` first."""
        start_it = not folder.is_busy() if start_it is None else start_it
        super().__init__(
            folder, start_it=start_it, initial_commands=initial_commands, gpus=gpus, idle=idle, parent=parent
        )
