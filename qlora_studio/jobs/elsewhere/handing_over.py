"""A job handed to its place's scheduler: it was taken, it was not, or nobody knows, which is none of the two."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qlora_studio.core.elsewhere import shell
from qlora_studio.core.elsewhere.shell import Part
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.jobs.elsewhere.connection import Connection, NotReached, Stopped
from qlora_studio.storage.runs.elsewhere_record import ElsewhereRecord

_ANSWERING_SECONDS = 15.0  # for the scheduler to answer once it is stopped: what it was asked cannot be taken back
_ASKING_AGAIN_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_NOT_BEGUN = {FailureKind.NOT_READABLE, FailureKind.TOOL_MISSING, FailureKind.OFFLINE}  # nothing was asked


class NotKnown(NotReached):
    """The scheduler was asked, and whether it took the job is not known: nothing of the run may be removed."""


def hand_over(connection: Connection, record: ElsewhereRecord) -> str:
    """Have the scheduler asked to take a run's job, and return its number.

    Raises Stopped where it was stopped before, NotKnown, and StudioError where the job was not taken.
    """
    connection.require_wanted()
    try:
        with _patient(connection) as asking:
            answer = asking.ask(shell.submit(record.folder), login=True)
    except (NotReached, Stopped) as error:  # it may have been heard all the same
        if job := taken_job(Connection(connection.place), record):
            return job
        raise _not_known(record, error.detail or error.message) from error
    except StudioError as error:
        if error.kind in _NOT_BEGUN:
            raise
        raise _not_known(record, error.detail or error.message) from error
    words, job = "\n".join(part.text for part in answer), shell.job_number(answer)
    if job:
        return job
    if len(answer) != 1 or answer[0].numbers == (0,) or "timed out" in words:
        raise _not_known(record, words)
    raise _not_taken(record.place, words)


def taken_job(connection: Connection, record: ElsewhereRecord) -> str:
    """Return the job that a submission became whose answer did not come here; nothing where that is not known."""
    try:
        answer: list[Part] = connection.ask(shell.submitted(record.folder), idle_seconds=_ASKING_AGAIN_SECONDS)
    except StudioError:
        return ""
    job = shell.job_number(answer)
    return job if job != record.job else ""


@contextmanager
def _patient(connection: Connection) -> Iterator[Connection]:
    """Give a connection to the same place that is given up only a while after the first one is."""
    asking, answered = Connection(connection.place, is_lasting=True), threading.Event()

    def watch() -> None:
        while not answered.wait(_LOOK_SECONDS):
            if connection.is_given_up:
                if not answered.wait(_ANSWERING_SECONDS):
                    asking.give_up()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield asking
    finally:
        answered.set()


def _not_known(record: ElsewhereRecord, why: str) -> NotKnown:
    return NotKnown(
        say("Whether {place} took the job is not known: the connection broke off.", place=record.place),
        say(
            "The run's folders are kept, here and there: {folder}. `squeue --me` there says whether the job waits; "
            "`scancel` takes it away. Resume follows a job that was taken, and else submits the run again.",
            folder=record.folder,
        ),
        why,
    )


def _not_taken(place: str, words: str) -> StudioError:
    if "not found" in words:
        return StudioError(
            say("{place} has no sbatch: it hands out no jobs by SLURM, or not to logins like this.", place=place),
            kind=FailureKind.NOT_REACHED,
            advice=say("Name a login node of the cluster as the place's host."),
            detail=words,
        )
    said = next((line for line in reversed(words.splitlines()) if line.strip()), "")
    return StudioError(
        say("{place} did not take the job: {said}", place=place, said=said.removeprefix("sbatch: error: ")),
        kind=FailureKind.NOT_REACHED,
        advice=say("Change what the place asks for: partition, time, cards, memory."),
        detail=words,
    )
