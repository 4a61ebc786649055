"""Ending a worker that does not answer: terminate first, kill what is left. For workers that others started, too."""

import contextlib
import time
from pathlib import Path

import psutil
from filelock import Timeout

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.events import Failed
from qlora_studio.core.words import say
from qlora_studio.jobs.run_follower import breakdown_advice, log_tail
from qlora_studio.storage.runs.elsewhere_record import is_open_elsewhere
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder

_POLL_SECONDS = 0.05
_WAITED = {"idle-worker", "supervise-idle"}


def end_worker(folder: RunFolder, pid: int, grace_seconds: float = 5.0) -> bool:
    """End the worker of a folder and its children; return whether it is gone. Never touches another program's process.

    A terminated worker has `grace_seconds`; one that hangs in a driver's call, or is frozen, is killed after them.
    `pid` is what the worker told last. It may be gone, and its supervisor be starting the next one.
    """
    workers = _family(folder, pid) or [process for process in psutil.process_iter() if _works_in(process, folder)]
    for process in workers:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    for process in _alive_after(workers, grace_seconds):
        with contextlib.suppress(psutil.Error):
            process.kill()
    return _is_free(folder, grace_seconds)


def acknowledge_breakdown(folder: RunFolder) -> None:
    """Put on record that a run's worker died without a word: it is not told again. Raises StudioError, OSError."""
    step = folder.state().step
    if step:
        message = say("The run broke off at step {step:,}: its worker is gone and did not say how it ended.", step=step)
    else:
        message = say("The run broke off: its worker is gone and did not say how it ended.")
    advice, detail = breakdown_advice(folder), log_tail(folder)
    failed = Failed(kind=FailureKind.WORKER_DIED, message=message, advice=advice, detail=detail)
    put_ending_on_record(folder, failed)


def put_ending_on_record(folder: RunFolder, failed: Failed) -> None:
    """Append how a session ended whose worker is gone, unless that stands there. Raises StudioError, OSError."""
    try:
        with folder.lock().acquire(blocking=False):
            if not is_open_elsewhere(folder.path) and not folder.state().phase.is_over:
                with MessageLogWriter(folder.events_path) as log:
                    log.append(failed, sync=True)
    except Timeout as error:
        raise StudioError(
            say("A worker is at work in this run."), kind=FailureKind.RUN_BUSY, advice=say("Look at it first.")
        ) from error


def _family(folder: RunFolder, pid: int) -> list[psutil.Process]:
    """Return the worker's process, its children, and before them whoever would start it again.

    Nothing where the pid belongs to somebody else by now.
    """
    try:
        worker = psutil.Process(pid)
        if not _works_in(worker, folder):
            return []
        parent = worker.parent()
        supervisor = [parent] if parent is not None and _works_in(parent, folder) else []
        return [*supervisor, worker, *worker.children(recursive=True)]
    except psutil.Error:
        return []


def _works_in(process: psutil.Process, folder: RunFolder) -> bool:
    try:
        words = process.cmdline()
        if _WAITED & {*words}:  # named before there was a run; what they print goes to the run's log
            return any(Path(file.path) == folder.log_path.resolve() for file in process.open_files())
    except psutil.Error:
        return False
    return any("worker" in word for word in words) and words[-1] == str(folder.path.resolve())


def _alive_after(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return those that still live. Only looks: waiting would take the exit code from whoever started the worker."""
    deadline = time.monotonic() + seconds
    while (alive := [process for process in processes if _lives(process)]) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return alive


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _is_free(folder: RunFolder, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while folder.is_busy():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
