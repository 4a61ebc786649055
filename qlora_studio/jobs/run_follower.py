"""Reads a run's events from the start and goes on as they come: for the window, `watch` and tests alike."""

import threading
import time
from collections.abc import Iterator

from qlora_studio.core.errors import FailureKind, advice_for
from qlora_studio.core.run.events import Event, Failed, Finished, Paused, Recovering, WorkerStarted
from qlora_studio.core.run.job import TrainJob
from qlora_studio.core.words import say
from qlora_studio.jobs.worker_process import WorkerProcess
from qlora_studio.storage.runs.elsewhere_record import is_open_elsewhere, read_told, told_stamp
from qlora_studio.storage.runs.run_folder import RunFolder

Batch = tuple[Event, ...]

_POLL_SECONDS = 0.03
_QUIET_SECONDS = 0.12  # between two looks, where nothing came for a while
_LOCK_SECONDS = 0.5  # between two looks at the lock, where no process tells whether the worker lives
_STARTUP_SECONDS = 10.0  # a worker that somebody else started takes its lock within this
_CHUNK = 1 << 17  # bytes of one read: about five hundred events
_TURNS = frozenset((WorkerStarted, Recovering, Finished, Failed, Paused))  # after which the worker is another, or none
_LOG_TAIL = 8000  # bytes of worker.log that go into the details of a failure
_KINDS: dict[int, FailureKind] = {
    kind.exit_code: kind for kind in (FailureKind.RUN_BUSY, FailureKind.NOT_WRITABLE, FailureKind.RUN_NOT_FOUND)
}


class RunFollower:
    """Follows one run or job. With its `process` it knows at once when the worker dies, and how."""

    def __init__(self, folder: RunFolder, process: WorkerProcess | None = None, *, from_start: bool = True) -> None:
        self._folder = folder
        self._process = process
        size = folder.events_path.stat().st_size if folder.events_path.exists() else 0
        self._past = process.events_offset if process else 0  # bytes that belong to earlier sessions
        offset = 0 if from_start else (self._past if process else size)
        self._log = folder.event_log(offset=offset)
        self._told = 0  # what of a run elsewhere was told
        self._ended = False
        self._seen = size > 0
        self._replaced = False  # by a fresh process, which may still be on its way
        self._outlived = 0  # how often it was seen at work after its supervisor, which is our process, had gone
        self._next_look = 0.0
        self._patience = time.monotonic() + _STARTUP_SECONDS

    def batches(self, stop: threading.Event | None = None) -> Iterator[Batch]:
        """Yield the events in order, in batches, until the living session ends or `stop` is set.

        A worker that died without a word is told as a `Failed` of kind `worker_died`, which stands in no file.
        """
        stop = stop or threading.Event()
        yield from self._earlier_sessions(stop)
        pause = _POLL_SECONDS
        while not stop.is_set():
            dead = self._worker_is_dead()  # asked before reading: what it wrote last is then surely read
            position = self._log.position
            batch = self._next_batch(_CHUNK)
            if self._log.position - position < _CHUNK and (damage := self._log.new_damage()):
                batch = (*batch[:-1], damage, *batch[-1:])  # before what may be the end
            if batch := (*batch, *self._elsewhere(dead)):
                pause = _POLL_SECONDS
                yield batch
            elif self._log.position > position:
                continue
            elif self._ended and (self._process is not None or dead):
                return
            elif dead:
                yield (self._death(),)
                return
            else:
                stop.wait(pause)
                pause = min(2 * pause, _QUIET_SECONDS)

    def _earlier_sessions(self, stop: threading.Event) -> Iterator[Batch]:
        """Yield what was told before our worker was started; no end in there is the end of it."""
        position = -1
        while position < self._log.position < self._past and not stop.is_set():
            position = self._log.position
            if batch := self._next_batch(min(self._past - position, _CHUNK)):
                yield batch
        self._ended = self._ended and self._process is None

    def _next_batch(self, limit: int) -> Batch:
        batch = tuple(self._log.new(limit))
        for event in batch:
            if type(event) not in _TURNS:  # asked of a hundred thousand steps, for which `isinstance` takes long
                continue
            if isinstance(event, WorkerStarted):
                self._ended = self._replaced = False
            elif isinstance(event, Recovering):
                self._replaced = True
                self._patience = time.monotonic() + _STARTUP_SECONDS
            else:
                self._ended = True
        self._seen = (self._seen or bool(batch)) and not self._replaced
        return batch

    def _elsewhere(self, dead: bool) -> Batch:
        """Return how a run stands that is on another computer, where that is new; what was last told of it is old."""
        if (stamp := told_stamp(self._folder.path)) == self._told:
            return ()
        self._told, told = stamp, read_told(self._folder.path)
        return (told,) if told is not None and (told.standing == "over" or not dead) else ()

    def _worker_is_dead(self) -> bool:
        if self._process is not None and self._process.poll() is not None and is_open_elsewhere(self._folder.path):
            self._process = None  # the mirror is gone, not the run: nothing is concluded
        if self._process is None:
            return self._lock_is_free()
        code = self._process.poll()
        if code is None or code in _KINDS:  # which say that the folder is somebody else's
            return code is not None
        return not self._is_outlived()

    def _is_outlived(self) -> bool:
        """Whether our supervisor alone was killed: the worker that it looked after still holds the folder."""
        if self._folder.is_busy():
            self._outlived += 1
            time.sleep(_POLL_SECONDS)
            return True
        return False

    def _lock_is_free(self) -> bool:
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + _LOCK_SECONDS
        if self._folder.is_busy():
            self._seen = not self._replaced
            return False
        return self._seen or now > self._patience

    def _death(self) -> Failed:
        process = self._process if self._outlived <= 1 else None  # whoever looks holds the lock for a moment, too
        code = process.poll() if process else None
        how = process.ending_text() if process else say("the worker is gone and did not say how it ended")
        return Failed(
            kind=_KINDS.get(code, FailureKind.WORKER_DIED) if code is not None else FailureKind.WORKER_DIED,
            message=f"{how[0].upper()}{how[1:]}.",
            advice=breakdown_advice(self._folder),
            detail=log_tail(self._folder),
        )


def breakdown_advice(folder: RunFolder) -> str:
    """Return what to do where a worker is gone: of a run, or of a job, which has no checkpoint.

    A run that has its adapter was making something of it, as a job would.
    """
    trains = not folder.job_path.exists() and not folder.state().training_over
    return advice_for(FailureKind.WORKER_DIED, TrainJob().kind if trains else "")


def log_tail(folder: RunFolder, size: int = _LOG_TAIL) -> str:
    """Return the end of `worker.log`, whole lines, or nothing where there is none."""
    try:
        with folder.log_path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - size))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return text if end <= size else text.partition("\n")[2]
