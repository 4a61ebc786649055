"""A job in a fresh process of its own, from within another one: what it tells is told again here."""

import subprocess
import time
from pathlib import Path

from qlora_studio import child_process
from qlora_studio.core.errors import FailureKind, advice_for, ending_in_words
from qlora_studio.core.run.commands import Stop
from qlora_studio.core.run.events import Event, Failed, Finished, Paused, Progressed, TerminalEvent, Warned
from qlora_studio.core.run.job import Job
from qlora_studio.core.run.reports import AnyReported, Reported
from qlora_studio.engine.context import Channel, Commands, JobStopped
from qlora_studio.storage.runs.own_files import opened_log
from qlora_studio.storage.runs.run_folder import RunFolder, create_job_folder
from qlora_studio.storage.runs.trusted_run import JOB_VARIABLE

_POLL_SECONDS = 0.1
_PATIENCE = 20.0  # seconds between asking a child to stop and killing it


def run_child(job: Job, jobs: Path, channel: Channel) -> tuple[TerminalEvent, list[AnyReported]]:
    """Do a job in a folder under `jobs`; return its ending and reports. A Stop ends it and raises JobStopped."""
    folder = create_job_folder(jobs, job)
    with opened_log(folder.log_path) as log:
        process = child_process.start(
            child_process.python("-m", "qlora_studio", "worker", str(folder.path.absolute())),
            environment={JOB_VARIABLE: folder.given_job},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        events = _follow(process, folder, channel)
    finally:
        process.kill()
        process.wait()
    ending = next((event for event in reversed(events) if isinstance(event, Finished | Failed | Paused)), None)
    if ending is None:
        words = ending_in_words(process.returncode)
        advice = advice_for(FailureKind.WORKER_DIED, job.kind)
        ending = Failed(kind=FailureKind.WORKER_DIED, message=f"{words[0].upper()}{words[1:]}.", advice=advice)
    return ending, [event for event in events if isinstance(event, Reported)]


def _follow(process: "subprocess.Popen[bytes]", folder: RunFolder, channel: Channel) -> list[Event]:
    log = folder.event_log()
    events: list[Event] = []
    while True:
        is_over = process.poll() is not None
        for event in log.all():
            events.append(event)
            if isinstance(event, Reported | Warned | Progressed):
                channel.emit(event)
        if is_over:
            return events
        _stop_with(process, folder, channel)
        time.sleep(_POLL_SECONDS)


def _stop_with(process: "subprocess.Popen[bytes]", folder: RunFolder, commands: Commands) -> None:
    try:
        commands.raise_if_stopped()
    except JobStopped:
        folder.send(Stop(save=False))
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
