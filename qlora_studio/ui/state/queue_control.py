"""The queue behind the window: starts the runs that wait one after another, and sums up when the last has ended."""

from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.jobs.gpu_sample import GpuCard
from qlora_studio.jobs.queue_runner import QueueRunner, queue_summary
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.run_queue import RunQueue

_TICK_MILLISECONDS = 1500


class QueueControl(QObject):
    """Looks after the queue of a folder of runs while the window is open; a closed window leaves it waiting.

    Signals:
        changed: other runs wait, or for another reason.
        started: a run was started; carries its folder.
        ended: the last run of the queue has ended; carries the summary, one sentence.
        failed: what was asked could not be done; carries a StudioError.
    """

    changed = Signal()
    started = Signal(object)
    ended = Signal(str)
    failed = Signal(object)

    def __init__(
        self, runs: Path, cards: Callable[[], Sequence[GpuCard]], at_work: Callable[[], Sequence[str]]
    ) -> None:
        super().__init__()
        self._runs, self._queue = runs, RunQueue(runs)
        self._runner = QueueRunner(self._queue, cards, at_work)
        self._at_work = at_work
        self._started: list[RunFolder] = []
        self._problem = ""
        self._clock = QTimer(self)
        self._clock.setInterval(_TICK_MILLISECONDS)
        self._clock.timeout.connect(self.tick)

    def begin(self) -> None:
        """Look after the queue from now on."""
        self._clock.start()

    def look_after(self, runs: Path) -> None:
        """Look after the queue of another folder of runs; those of the one before wait there."""
        if runs != self._runs:
            self._runs = runs
            self._queue = self._runner.queue = RunQueue(runs)
            self.changed.emit()

    def end(self) -> None:
        """Start nothing any more; what runs goes on."""
        self._clock.stop()

    def waiting(self) -> tuple[str, ...]:
        """Return the folders that wait, first first."""
        return tuple(run.path for run in self._queue.runs())

    def waits_for(self) -> str:
        """Return what the first one waits for, where it could otherwise start."""
        return self._runner.waiting_for

    def add(self, folder: RunFolder, needed_bytes: int = 0) -> None:
        """Put a run at the end of the queue."""
        try:
            self._queue.add(folder, needed_bytes)
        except StudioError as error:
            self.failed.emit(error)
        self.changed.emit()

    def add_new(self, create: Callable[[], RunFolder], needed_bytes: int) -> RunFolder | None:
        """Create a run and put it at the end of the queue; None where that cannot be."""
        try:
            folder = create()
        except StudioError as error:
            self.failed.emit(error)
            return None
        self.add(folder, needed_bytes)
        return folder

    def remove(self, folder: RunFolder) -> None:
        """Take a run out of the queue."""
        self._queue.remove(folder)
        self.changed.emit()

    def tick(self) -> None:
        """Start the next run where its turn has come."""
        before = self._runner.waiting_for
        process = self._runner.start_next()
        if process is not None:
            self._started.append(process.folder)
            self.started.emit(process.folder)
            self.changed.emit()
        told, self._problem = self._problem, self._queue.problem
        if self._problem not in ("", told):
            self.failed.emit(StudioError(self._problem, kind=FailureKind.DAMAGED))
        for _, error in self._runner.failures:
            self.failed.emit(error)
        self._runner.failures.clear()
        if before != self._runner.waiting_for:
            self.changed.emit()
        if self._started and not self._runner.current and not self._at_work() and not self.waiting():
            folders, self._started = self._started, []
            self.ended.emit(queue_summary(folders))
