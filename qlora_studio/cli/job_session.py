"""A job followed on a terminal: started, shown as it goes, asked to stop by Ctrl-C and ended by a second one.

The worker has a session of its own, where no signal of the terminal arrives: who follows it passes them on. What was
interrupted is told as it is found on the disk and in the events, never as it was meant to be.
"""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from qlora_studio.cli.console import Console
from qlora_studio.cli.interruption import write_at_once
from qlora_studio.cli.progress import Progress
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Command
from qlora_studio.core.run.events import Event, Failed
from qlora_studio.core.run.job import DataJob, DownloadJob, ExportJob, Job, MergeJob, TrainJob, VerifyJob
from qlora_studio.core.run.machines import Machines
from qlora_studio.core.run.run_state import RunState, fold
from qlora_studio.jobs.job_folders import new_job_folder
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_ending import put_ending_on_record
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker, wait_until_free
from qlora_studio.storage.datasets.files import hub_name
from qlora_studio.storage.models.hub_cache import remove_partial_files
from qlora_studio.storage.models.kept_bases import kept_path
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.settings import cache_path
from qlora_studio.storage.staging import remove_abandoned

OnEvent = Callable[[Event], None]
_ENDING_SECONDS = 30.0
_KILL_SECONDS = 2.0  # after which a worker that was asked to end at once is killed
_STOPPED = {
    "data": "The dataset was only read: it is as it was.",
    "estimate": "An estimate writes nothing.",
    "verify": "The export is as it was; it is not verified by this.",
    "chat": "The answer ends here.",
    "machine": "The run ends on all machines: resume it on machine 0, and start the others as before.",
    "download": "The files that came whole are kept: the same command fetches the others.",
    "upload": "None of its files is to be seen in the repository, which may have been made: the same command goes on.",
}
_KILLED = {
    "upload": "Whether its files are in the repository is not known here: the same command sends those that are not.",
}
_NOTHING_EXPORTED = "Nothing was exported, and what was begun is removed."


class JobSession:
    """One worker of a run, or of a `job`, from its start to its end.

    `is_new`: the folder was made for this, and is removed where nothing begins. What was found is never removed.
    """

    def __init__(
        self,
        folder: RunFolder,
        console: Console,
        initial_commands: Sequence[Command] = (),
        *,
        gpus: str = "",
        machines: Machines | None = None,
        job: Job | None = None,
        is_new: bool = False,
    ) -> None:
        self.folder = folder
        self.started = time.monotonic()
        self.state = RunState()
        self._console = console
        self._interruption = console.interruption
        self._job: Job = job or TrainJob()
        self._is_run = job is None
        with self._interruption.held():
            try:
                self._interruption.raise_if_any()
                console.if_interrupted(f"A worker may have been started in {folder.path}.")
                several = machines.model_dump_json() if machines else ""
                self.process: WorkerProcess = start_worker(
                    folder, initial_commands=initial_commands, gpus=gpus, machines=several
                )
            except BaseException as error:
                if is_new and (not self._is_run or isinstance(error, KeyboardInterrupt)):
                    shutil.rmtree(folder.path, ignore_errors=True)
                raise
            self._interruption.take(self._interrupt)

    @property
    def interrupted(self) -> int:
        """How many signals came."""
        return self._interruption.count

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    def follow(self, on_event: OnEvent | None = None) -> RunState:
        """Show the job until it ends and return its last state; of a resumed run, the earlier sessions count too.

        Raises StudioError where a job was interrupted, or a run ended at once.
        """
        try:
            with Progress(self._console) as progress:
                for state in states(RunFollower(self.folder, self.process), progress, on_event):
                    self.state = state
            self._wait_for_end()
        except BaseException:  # nobody is there to be shown more; a run goes on, as where the terminal is gone
            if not self._is_run:
                self._end_at_once()
            raise
        finally:
            self._console.if_interrupted(self._how_it_is())
            self._interruption.take(None)
        if self.interrupted > 1:
            raise self._ended_at_once()
        if self.interrupted and not self._is_run and self.state.failure is None:
            self._tell_stopped()
        return self.state

    def _interrupt(self, count: int) -> None:
        """Pass a signal on. Called in the midst of anything, so nothing here prints through Python's streams."""
        again = "Once more ends it at once."
        if self._interruption.is_hangup and self._is_run:
            self._console.if_interrupted(f"The run goes on. See it with: {command_line('watch', self.folder)}")
            self._interruption.leave()
        elif count == 1:
            write_at_once(f"Stopping{self._what_stop_saves()}. {again}")
            with suppress(OSError, StudioError):  # of a full disk, say: the second one needs none
                self.process.ask_stop(save=True)
        elif count == 2:
            self.process.terminate()
            killing = threading.Timer(_KILL_SECONDS, self.process.kill)
            killing.daemon = True
            killing.start()
        else:
            self.process.kill()
            self._console.if_interrupted(f"The worker was killed. {self._how_it_is()}")
            self._interruption.leave()

    def _how_it_is(self) -> str:
        """Return what is true whatever came of it."""
        if self.state.phase is Phase.FINISHED:
            return "The work itself was done."
        return f"How it is: {command_line('watch', self.folder)}" if self._is_run else "Its worker is ended."

    def _what_stop_saves(self) -> str:
        if not self._is_run:
            return ""
        if self.state.training_over:
            return ": the adapter is saved already, and what is made of it now is given up"
        return ": what was learned so far is saved first" if self.state.last_step else ": nothing is trained yet"

    def _wait_for_end(self) -> None:
        if self.process.wait(_ENDING_SECONDS) is None and self.interrupted > 1:
            self.process.kill()
            self.process.wait(_ENDING_SECONDS)

    def _end_at_once(self) -> None:
        self.process.terminate()
        if self.process.wait(_KILL_SECONDS) is None:
            self.process.kill()
            self.process.wait(_ENDING_SECONDS)
        self._tidy_up()

    def _tidy_up(self) -> None:
        """Remove what a worker that was ended at once left half made; the next one would, too."""
        wait_until_free(self.folder, _KILL_SECONDS)
        for place in self._places():
            with suppress(OSError):
                remove_abandoned(place)
        for name, kind in self._repositories():
            remove_partial_files(name, kind)

    def _places(self) -> list[Path]:
        run = self.folder
        places = [run.path, run.checkpoints_path, run.exports_path, cache_path() / "models", kept_path()]
        if not self._is_run:
            job = self._job
            if isinstance(job, ExportJob):
                of = RunFolder(job.run_dir)
                places += [Path(job.out_dir), Path(job.out_dir).parent] if job.out_dir else [of.exports_path]
            elif isinstance(job, MergeJob):
                places.append(Path(job.out_dir).parent)
            elif isinstance(job, VerifyJob):
                places += (cache_path() / "verification").glob("*")
        return [place for place in places if place.is_dir() and not place.is_symlink()]

    def _repositories(self) -> list[tuple[str, str]]:
        """Return what this may have been fetching from the hub."""
        job = self._job
        if isinstance(job, DownloadJob):
            return [(job.source, "models")]
        if not isinstance(job, DataJob | TrainJob):
            return []
        config = job.config if isinstance(job, DataJob) else self.folder.config()
        paths = [*(source.path for source in config.data.sources), config.data.evaluation_path]
        return [(config.model.source, "models"), *((name, "datasets") for name in map(hub_name, paths) if name)]

    def _ended_at_once(self) -> StudioError:
        """Put on record that the user ended it, and return that in words."""
        self._tidy_up()
        if self.state.phase in (Phase.FINISHED, Phase.STOPPED, Phase.PAUSED):
            words, advice = f"It was {self.state.phase.words.lower()} before it could be ended at once.", ""
        else:
            words = f"Ended at once. {self._left_of_run() if self._is_run else self._left_of_job()}"
            advice = f"Go on with: {resume_command(self.folder)}" if self._is_run else ""
            failed = Failed(kind=FailureKind.INTERRUPTED, message=words, advice=advice)
            with suppress(OSError, StudioError):  # where it cannot be written, the run is told as lost
                put_ending_on_record(self.folder, failed)
        return StudioError(words, kind=FailureKind.INTERRUPTED, advice=advice)

    def _left_of_run(self) -> str:
        """Return what is safe of a run, by its events up to the last."""
        state = self.folder.state()
        if state.training_over:
            return f"The adapter of step {state.step:,} is safe: {state.adapter_path}"
        if state.checkpoint is not None:
            return f"{state.checkpoint.name} is safe; what was learned after it is lost."
        return f"There was no checkpoint: {'what was learned is lost' if state.step else 'nothing was learned'}."

    def _left_of_job(self) -> str:
        if whole := [item.path for item in self.state.exports]:
            return f"Whole, and not verified by this: {', '.join(whole)}"
        kind = self._job.kind
        words = {**_STOPPED, **_KILLED} if self.interrupted > 1 else _STOPPED
        return words.get(kind, _NOTHING_EXPORTED)

    def _tell_stopped(self) -> None:
        """Raise StudioError where a job was stopped; one that was done before that is told as it is."""
        if self.state.phase is Phase.FINISHED:
            self._console.say("It was done before it could be stopped.")
            return
        raise StudioError(f"Stopped. {self._left_of_job()}", kind=FailureKind.INTERRUPTED)


def job_session(job: Job, console: Console, parent: RunFolder | None = None) -> JobSession:
    """Start a job in a folder of its own, both or neither. Raises StudioError."""
    with console.interruption.held():
        return JobSession(new_job_folder(job, parent), console, job=job, is_new=True)


def run_job(job: Job, console: Console, on_event: OnEvent | None = None, parent: RunFolder | None = None) -> RunState:
    """Do a job in a folder of its own and return its last state. Raises StudioError where it failed or was stopped."""
    return checked(job_session(job, console, parent).follow(on_event))


def states(follower: RunFollower, progress: Progress, on_event: OnEvent | None = None) -> Iterator[RunState]:
    """Show the events until the run ends, and yield what they amount to so far."""
    state = RunState()
    for batch in follower.batches():
        state = fold(state, batch)
        for event in batch:
            progress.tell(event)
            if on_event is not None:
                on_event(event)
        progress.show(state)
        yield state


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
    return command_line("resume", folder)


def command_line(name: str, folder: RunFolder) -> str:
    """Return a command about a run, ready to be copied."""
    import shlex
    import subprocess

    words = ["qlora-studio", name, str(folder.path)]
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
