"""The run of a scheduler's job, at the place itself: its worker is started and looked after, as a job script asks.

Before its time is over, or where it is cancelled or has to make room, a job gets SIGTERM, and so may every process of
it. The worker does not hear that; it is asked to pause, which saves a checkpoint. The same script, run again by the
scheduler or by hand, goes on from there. Of several nodes the first one has the run; it ends the others.
"""

import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Command, Pause
from qlora_studio.core.run.events import Warned
from qlora_studio.core.run.job import MachineJob
from qlora_studio.core.run.machines import Machines
from qlora_studio.core.run.run_state import RunState, fold
from qlora_studio.core.words import say
from qlora_studio.jobs.job_folders import new_job_folder
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_ending import put_ending_on_record
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker, wait_until_free
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.trusted_run import accept_sent, sent_run_config

_FREE_SECONDS = 300.0  # in which the lock of a node that was lost is given back


def work_in_job(
    folder: RunFolder,
    sha256: str,
    initial_commands: Sequence[Command],
    listen: Callable[[Callable[[], None]], None],
    program: Sequence[str] = (),
    machines: Machines | None = None,
) -> RunState:
    """Train the run that was sent, to its end or until the job is asked to end; return its last state.

    `listen` is handed what is to be called where the job is asked to end; `program` plays the worker in tests;
    `machines` are the nodes that train it together. Raises StudioError where nothing can begin.
    """
    accept_sent(folder, sha256)
    if not wait_until_free(folder, _FREE_SECONDS):
        raise StudioError(say("A worker is at work in {path}.", path=folder.path), kind=FailureKind.RUN_BUSY)
    state = folder.state()
    if state.phase is Phase.FINISHED:
        return state
    process = _started(folder, initial_commands, program, machines)
    listen(lambda: _pause(folder))
    state = _followed(folder, process)
    if state.failure is not None:  # of a worker that died without a word
        put_ending_on_record(folder, state.failure)
    return state


def help_in_job(folder: RunFolder, sha256: str, machines: Machines) -> RunState:
    """Train along with the first node, to the end that this sets; return how it went here. Raises StudioError."""
    job = new_job_folder(MachineJob(config=sent_run_config(folder, sha256), machines=machines))
    return _followed(job, _started(job))


def _followed(folder: RunFolder, process: WorkerProcess) -> RunState:
    state = RunState()
    for batch in RunFollower(folder, process).batches():
        state = fold(state, batch)
    process.wait()
    return state


def _started(
    folder: RunFolder,
    initial_commands: Sequence[Command] = (),
    program: Sequence[str] = (),
    machines: Machines | None = None,
) -> WorkerProcess:
    """Start the worker, so that SIGTERM, which comes to every process of a job, does not end it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        several = machines.model_dump_json() if machines else ""
        return start_worker(folder, program, initial_commands=initial_commands, machines=several)
    finally:
        signal.signal(signal.SIGTERM, before)


def _pause(folder: RunFolder) -> None:
    """Ask the worker to pause, and say why. Called by a signal."""
    words = say(
        "The job was asked to end: its time is nearly over, it was cancelled, or it makes room. The run pauses with a "
        "checkpoint."
    )
    with suppress(OSError, StudioError):
        folder.send(Pause())
        with MessageLogWriter(folder.events_path) as log:
            log.append(Warned(kind="job_ends", message=words))
