"""A job followed on a terminal: started, shown as it goes, asked to stop by Ctrl-C and ended by a second one."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from qlora_studio.cli.console import Console
from qlora_studio.cli.progress import Progress
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import Command
from qlora_studio.core.run.events import Event, Failed
from qlora_studio.core.run.job import Job
from qlora_studio.core.run.run_state import RunState, fold
from qlora_studio.jobs.job_folders import new_job_folder
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker
from qlora_studio.storage.runs.run_folder import RunFolder

OnEvent = Callable[[Event], None]
_ENDING_SECONDS = 30.0


class JobSession:
    """One worker, from its start to its end."""

    def __init__(
        self, folder: RunFolder, console: Console, initial_commands: Sequence[Command] = (), *, gpus: str = ""
    ) -> None:
        self.folder = folder
        self.interrupted = 0
        self.started = time.monotonic()
        self.process: WorkerProcess = start_worker(folder, initial_commands=initial_commands, gpus=gpus)
        self._console = console

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    def follow(self, on_event: OnEvent | None = None) -> RunState:
        """Show the job until it ends and return its last state; of a resumed run, the earlier sessions count too."""
        with Progress(self._console) as progress, self._obeying_ctrl_c(progress):
            state = follow(RunFollower(self.folder, self.process), progress, on_event)
        self.process.wait(_ENDING_SECONDS)
        if self.interrupted > 1:
            raise StudioError(
                "The run was ended at once.",
                kind=FailureKind.INTERRUPTED,
                advice=f"Resume it with: {resume_command(self.folder)}",
            )
        return state

    @contextmanager
    def _obeying_ctrl_c(self, progress: Progress) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(number: int, frame: FrameType | None) -> None:
            self.interrupted += 1
            if self.interrupted == 1:
                progress.note("Stopping: the work so far is saved. Press Ctrl-C again to end at once.")
                self.process.ask_stop(save=True)
            else:
                self.process.terminate()

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def run_job(job: Job, console: Console, on_event: OnEvent | None = None, parent: RunFolder | None = None) -> RunState:
    """Do a job in a folder of its own and return its last state. Raises StudioError where it failed."""
    session = JobSession(new_job_folder(job, parent), console)
    return checked(session.follow(on_event))


def follow(follower: RunFollower, progress: Progress, on_event: OnEvent | None = None) -> RunState:
    """Reduce and show the events until the run ends."""
    state = RunState()
    for batch in follower.batches():
        state = fold(state, batch)
        for event in batch:
            progress.tell(event)
            if on_event is not None:
                on_event(event)
        progress.show(state)
    return state


def checked(state: RunState) -> RunState:
    """Return the state. Raises StudioError where the job failed."""
    if state.failure is not None:
        raise error_of(state.failure)
    return state


def error_of(failure: Failed) -> StudioError:
    """Return a failure that a worker told as an error to tell here."""
    return StudioError(failure.message, kind=failure.kind, advice=failure.advice, detail=failure.detail)


def resume_command(folder: RunFolder) -> str:
    """Return the command that goes on with a run, ready to be copied."""
    import shlex
    import subprocess

    words = ["qlora-studio", "resume", str(folder.path)]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
