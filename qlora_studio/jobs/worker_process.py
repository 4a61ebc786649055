"""One worker: a child process in a session of its own, that outlives whoever started it. Asked, ended, killed here.

A run's worker has a supervisor above it in that session, which starts it again after a fault (supervisor.py). A job is
small: it is simply tried again by whoever wants it, and its worker has none.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from qlora_studio import child_process
from qlora_studio.core.errors import FailureKind, StudioError, ending_in_words
from qlora_studio.core.run.commands import Command, Stop
from qlora_studio.core.run.machines import VARIABLE
from qlora_studio.core.words import say
from qlora_studio.jobs.card_choice import worker_environment
from qlora_studio.jobs.elsewhere.mirror_process import start_mirror
from qlora_studio.jobs.gpu_monitor import gpu_cards
from qlora_studio.jobs.idle_worker import ENVIRONMENT, IdleWorker
from qlora_studio.storage.runs.elsewhere_record import ElsewhereRecord, read_record
from qlora_studio.storage.runs.own_files import opened_log, require_own_files
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.trusted_run import JOB_VARIABLE, require_startable

WORKER = child_process.python("-m", "qlora_studio", "worker")
SUPERVISOR = child_process.python("-m", "qlora_studio", "supervise")  # before the words that start a worker

_POLL_SECONDS = 0.02
_GONE_SECONDS = 5.0  # a killed worker gives its memory back within this
_LOOK_SECONDS = 0.2  # whoever looks whether a worker lives holds the lock for a moment


class WorkerProcess:
    """A worker that was started here, or its supervisor, which ends as it does.

    Dropping this object does not end the worker.
    """

    def __init__(self, popen: subprocess.Popen[bytes], folder: RunFolder, *, events_offset: int = 0) -> None:
        self.folder = folder
        self.events_offset = events_offset  # bytes of events.jsonl that belong to earlier sessions
        self.pid = popen.pid
        self._popen = popen

    def __del__(self) -> None:
        if self._popen.poll() is None:
            self._popen.returncode = 0  # else Python warns of a child that nobody waited for

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the worker lives."""
        return self._popen.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end, `timeout` seconds at most; return what `poll` returns."""
        began = time.monotonic()
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        if code < 0:  # of two that are killed at once, the supervisor is gone sooner
            left = _GONE_SECONDS if timeout is None else timeout - (time.monotonic() - began)
            wait_until_free(self.folder, min(left, _GONE_SECONDS))
        return code

    def ask_stop(self, *, save: bool = True) -> None:
        """Ask the worker to end its work well, with its adapter saved where `save` says so."""
        self.folder.send(Stop(save=save))

    def terminate(self) -> None:
        """End the worker and its children now; what was not saved is lost."""
        self._signal(getattr(signal, "SIGTERM", None))

    def kill(self) -> None:
        """End them without asking: the only thing that helps against a call that does not return."""
        self._signal(getattr(signal, "SIGKILL", None))

    def ending_text(self) -> str:
        """Return how the worker ended, in words; nothing while it lives."""
        code = self.poll()
        return "" if code is None else ending_in_words(code)

    def _signal(self, number: signal.Signals | None) -> None:
        if self.poll() is not None:
            return
        if sys.platform == "win32" or number is None:
            _end_tree(self.pid)
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def start_worker(
    folder: RunFolder,
    program: Sequence[str] = (),
    *,
    initial_commands: Sequence[Command] = (),
    gpus: str = "",
    machines: str = "",
    idle: IdleWorker | None = None,
) -> WorkerProcess:
    """Start the worker of a run or job folder; `program` plays it in tests.

    `initial_commands` are the first commands that it finds, `machines` those that it trains with. A run is given to the
    worker of `idle` where one waits. It sees one card, that of its run's `hardware.gpus` or of `gpus`. Raises
    StudioError where a run is not trusted or a job was made by another, where a worker is at work already, where the
    card is not here, or none can start.
    """
    require_startable(folder)
    if (record := read_record(folder.path)) is not None:
        return _following(folder, record)
    if not wait_until_free(folder, _LOOK_SECONDS):
        raise StudioError(
            say("A worker is at work in {path}.", path=folder.path),
            kind=FailureKind.RUN_BUSY,
            advice=say("Watch that one, or stop it first."),
        )
    cards = worker_environment(folder, gpu_cards, gpus)
    require_own_files(folder.path)
    offset, commands_from = _size(folder.events_path), _size(folder.commands_path)
    try:
        for command in initial_commands:
            folder.send(command)
        own = {"QLORA_STUDIO_COMMANDS_FROM": str(commands_from), JOB_VARIABLE: folder.given_job, VARIABLE: machines}
        with opened_log(folder.log_path) as log:
            popen = None
            if idle is not None and not folder.job_path.exists():
                popen = idle.hand_over(folder.path.resolve(), cards, own, log)
            popen = popen or child_process.start(
                [*(program or _program(folder)), str(folder.path.resolve())],
                environment={**ENVIRONMENT, **cards, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=sys.platform != "win32",
                creationflags=_creation_flags(),
            )
    except FileNotFoundError as error:
        raise StudioError(
            say("There is no folder {path}.", path=folder.path), kind=FailureKind.RUN_NOT_FOUND
        ) from error
    except OSError as error:
        raise StudioError(
            say("No worker can be started in {path}: {strerror}.", path=folder.path, strerror=error.strerror or error),
            kind=FailureKind.NOT_WRITABLE,
            advice=say("Choose another folder, or give yourself permission to write there."),
        ) from error
    return WorkerProcess(popen, folder, events_offset=offset)


def _following(folder: RunFolder, record: ElsewhereRecord) -> WorkerProcess:
    """Start the mirror of a run that is elsewhere, which stands here in the worker's place. Raises StudioError."""
    if not record.open:
        raise StudioError(
            say("{name} is a run of {place}: it goes on there.", name=folder.path.name, place=record.place),
            kind=FailureKind.USAGE,
            advice=say('Submit it again: qlora-studio elsewhere submit "{path}"', path=folder.path),
        )
    offset = _size(folder.events_path)
    if (popen := start_mirror(folder)) is None:
        raise StudioError(say("{name} is followed already.", name=folder.path.name), kind=FailureKind.RUN_BUSY)
    return WorkerProcess(popen, folder, events_offset=offset)


def wait_until_free(folder: RunFolder, timeout: float) -> bool:
    """Wait until no worker holds the folder, `timeout` seconds at most; return whether it is free."""
    deadline = time.monotonic() + timeout
    while folder.is_busy():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _program(folder: RunFolder) -> tuple[str, ...]:
    return WORKER if folder.job_path.exists() else SUPERVISOR + WORKER


def _end_tree(pid: int) -> None:
    """End a process and what it started: Windows knows no groups to signal."""
    import psutil

    with contextlib.suppress(psutil.Error):
        supervisor = psutil.Process(pid)
        for process in (supervisor, *supervisor.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                process.kill()


def _creation_flags() -> int:
    """On Windows: a group of its own, and no console, so that closing the window's console leaves the worker alone."""
    if sys.platform != "win32":
        return 0
    return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
