"""Starts the queue's runs one after another, each when the card is free enough. Called now and then; never waits."""

from collections import Counter
from collections.abc import Callable, Sequence

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.run_queue import QueuedRun, RunQueue

_WELL = (Phase.FINISHED, Phase.PAUSED, Phase.STOPPED)


class QueueRunner:
    """Runs the queue. `free_bytes()` is the card's free memory, or None where there is no card to ask."""

    def __init__(self, queue: RunQueue, free_bytes: Callable[[], int | None]) -> None:
        self._queue = queue
        self._free_bytes = free_bytes
        self._process: WorkerProcess | None = None
        self.waiting_for = ""
        self.failures: list[tuple[RunFolder, StudioError]] = []

    @property
    def current(self) -> RunFolder | None:
        """The run that was started last, while its worker is at work."""
        process = self._process
        return process.folder if process is not None and process.poll() is None else None

    def start_next(self) -> WorkerProcess | None:
        """Start the first run that waits and return its worker; None where one is at work, none waits, or none fits."""
        self.waiting_for = ""
        waiting = self._queue.runs()
        if not waiting or self.current is not None:
            return None
        first = waiting[0]
        if first.folder.is_busy():  # somebody else started it
            self._queue.remove(first.folder)
            return None
        if not self._fits(first):
            self.waiting_for = "the card to be free enough"
            return None
        return self._start(first)

    def _start(self, run: QueuedRun) -> WorkerProcess | None:
        self._queue.remove(run.folder)
        try:
            self._process = start_worker(run.folder)
        except StudioError as error:
            self.failures.append((run.folder, error))
            return None
        return self._process

    def _fits(self, run: QueuedRun) -> bool:
        free = self._free_bytes()
        return free is None or free >= run.needed_bytes


def queue_summary(folders: Sequence[RunFolder]) -> str:
    """Return what became of runs: "The queue is done: 2 finished, 1 failed."."""
    counts = Counter(phase if (phase := folder.state().phase) in _WELL else Phase.FAILED for folder in folders)
    return "The queue is done: " + ", ".join(f"{count} {phase.words.lower()}" for phase, count in counts.items()) + "."
