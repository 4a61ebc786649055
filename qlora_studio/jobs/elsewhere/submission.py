"""A run sent to a place and handed to its scheduler: a folder here and one there, or neither."""

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from qlora_studio.core.elsewhere import shell
from qlora_studio.core.elsewhere.job_script import job_script
from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.elsewhere.sent_config import ranks_there
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.foreign_text import LARGEST_TOML
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import AcceptChanges, Command, LowerRate
from qlora_studio.core.run.events import ElsewhereTold
from qlora_studio.core.run.ranks import require_shares
from qlora_studio.core.words import say
from qlora_studio.jobs.elsewhere.acts import cancel_with
from qlora_studio.jobs.elsewhere.connection import Connection, Stopped
from qlora_studio.jobs.elsewhere.handing_over import NotKnown, hand_over, taken_job
from qlora_studio.jobs.elsewhere.sending import Sending, SentFile, listening
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.foreign import read_bytes, unreadable
from qlora_studio.storage.places import place_named
from qlora_studio.storage.runs import trust
from qlora_studio.storage.runs.elsewhere_record import (
    FOLDER,
    ElsewhereRecord,
    is_network_trusted,
    is_open_elsewhere,
    read_record,
    read_told,
    record_network,
    record_sent,
    write_record,
    write_told,
)
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder

Progress = Callable[[int, int], None]
_PIECE = 1 << 18
_LOCK_SECONDS = 3.0  # a mirror that has just closed the run is ending
_TIDYING_SECONDS = 10.0  # for a place that may hang
_CLOSING_SECONDS, _POLL_SECONDS = 30.0, 0.2


def submit(
    sending: Sending, runs: Path, stop: threading.Event | None = None, progress: Progress | None = None
) -> RunFolder:
    """Make a run's folder here and there, send what it needs, and hand it to the scheduler; return the one here.

    Raises StudioError; nothing is left then, here or there, or it says what: all is kept where it is not known whether
    the scheduler took the job. `progress` is told bytes sent and bytes in all. Once `stop` is set it ends at once,
    whatever hangs there; a scheduler that is just asked is given a while to answer, and its job is cancelled.
    """
    require_trust(sending.place, trusts=sending.trusts)
    connection = Connection(sending.place, stop)
    folder = create_run_folder(runs, sending.config)
    home, name = "", folder.path.name
    try:
        home = _make_folder(connection, name)
        _require(connection, sending.expected)
        record = _record_of(sending.place.name, home, name)
        record_sent(folder.path, record)
        if sending.place.nodes > 1:
            record_network(folder.path, record.place, sending.place.interface)
        _Upload(connection, record.folder, sending.size_bytes, progress).send(sending.files)
        text, script = sending.job(record.folder)
        _send_text(connection, record.folder, "run.toml", text)
        _keep(folder, "run.toml", text)
        write_record(folder.path, record)
        _submit_job(connection, folder, record, script)
    except BaseException as error:
        if isinstance(error, NotKnown) or (is_open_elsewhere(folder.path) and not isinstance(error, Stopped)):
            raise
        shutil.rmtree(folder.path, ignore_errors=True)
        raise _with_what_is_left(error, _left_there(sending.place, home, name)) from error
    return folder


def require_trust(place: Place, *, trusts: bool) -> None:
    """Raise StudioError where nodes would speak by a network that the user does not trust for this run."""
    if place.nodes > 1 and not trusts:
        raise StudioError(
            say("Nothing was sent: the network of {interface} was not called trusted.", interface=place.interface),
            kind=FailureKind.USAGE,
            advice=say("Where you trust everybody who reaches it, say so: --trust-network"),
            detail="\n".join(listening(place)),
        )


def submit_again(
    folder: RunFolder,
    initial_commands: Sequence[Command] = (),
    *,
    trusts: bool = False,
    stop: threading.Event | None = None,
) -> None:
    """Hand a run that is elsewhere to its scheduler again: it goes on from its newest safe checkpoint there.

    What its place asks for now counts. Whoever called the network between its nodes trusted before has done so, unless
    it is another one now. Raises StudioError: where it is at work, is finished, or its place does not take it.
    """
    trust.trusted_text(folder.path)
    _closed_record(folder)
    try:
        with folder.lock().acquire(timeout=_LOCK_SECONDS, poll_interval=_POLL_SECONDS):
            _submit_closed(folder, initial_commands, trusts, stop)
    except Timeout as error:
        raise _busy(say("{name} is just being submitted.", name=folder.path.name)) from error


def _submit_closed(
    folder: RunFolder, initial_commands: Sequence[Command], trusts: bool, stop: threading.Event | None
) -> None:
    """Submit a run that nobody else follows, or submits at the same moment."""
    record = _closed_record(folder)
    if folder.state().phase is Phase.FINISHED:
        raise StudioError(
            say("{name} is complete: there is nothing left to train.", name=folder.path.name),
            kind=FailureKind.ALREADY_FINISHED,
        )
    place = place_named(record.place)
    if record.asked and (job := taken_job(Connection(place, stop), record)):
        _record_job(folder, record, job)  # the last submission was heard after all
        return
    require_trust(place, trusts=trusts or is_network_trusted(folder.path, place.name, place.interface))
    config = folder.config()
    require_shares(config, ranks_there(config, place))
    if trusts and place.nodes > 1:
        record_network(folder.path, place.name, place.interface)
    sent = _sent_text(folder)
    more = [word for command in initial_commands if (word := _word(command))]
    sha256 = hashlib.sha256(sent).hexdigest()
    script = job_script(place, record.folder, sha256, more=more, trusts=place.nodes > 1)
    _submit_job(Connection(place, stop), folder, record, script)


def _sent_text(folder: RunFolder) -> bytes:
    """Return the settings as they were sent. Raises StudioError where they are not here any more."""
    path = folder.path / FOLDER / "run.toml"
    try:
        return read_bytes(path, limit=LARGEST_TOML, inside=folder.path)
    except FileNotFoundError as error:
        raise StudioError(
            say("{path} is not there: it says what was sent.", path=path),
            kind=FailureKind.NOT_READABLE,
            advice=say(
                "Copy it back from the run's folder there, where it is run.toml; or submit its settings as a new run."
            ),
        ) from error


def _submit_job(connection: Connection, folder: RunFolder, record: ElsewhereRecord, script: str) -> None:
    """Hand a run's job over; where that was stopped meanwhile, the job is cancelled. Raises StudioError."""
    _send_text(connection, record.folder, f"{FOLDER}/job.sh", script)
    _keep(folder, "job.sh", script)
    write_record(folder.path, record.model_copy(update={"asked": True}))
    try:
        job = hand_over(connection, record)
    except NotKnown as error:
        _tell_not_known(folder, record, error)
        raise
    except StudioError:
        with suppress(StudioError):
            write_record(folder.path, record)
        raise
    taken = _record_job(folder, record, job)
    if connection.is_given_up:
        _cancel_again(connection.place, folder, taken)


def _record_job(folder: RunFolder, record: ElsewhereRecord, job: str) -> ElsewhereRecord:
    """Put on record that the scheduler took a run's job. Raises NotKnown where that cannot be: the job is there."""
    before = {"events_before": _size(folder.events_path), "commands_sent": _size(folder.commands_path)}
    record = record.model_copy(update={"job": job, "open": True, "asked": False, **before})
    try:
        write_told(folder.path, ElsewhereTold(place=record.place, job=job))
        record_sent(folder.path, record)
        write_record(folder.path, record)
    except StudioError as error:
        raise NotKnown(
            say("{place} took the job as {job}, which could not be written down here.", place=record.place, job=job),
            say("Make room, and resume the run: it is followed then. `scancel {job}` there cancels the job.", job=job),
            f"{error.message} {error.detail}".strip(),
        ) from error
    return record


def _tell_not_known(folder: RunFolder, record: ElsewhereRecord, error: NotKnown) -> None:
    with suppress(StudioError):
        problem = f"{error.message} {error.advice}"
        write_told(folder.path, ElsewhereTold(place=record.place, job=record.job, problem=problem))


def _cancel_again(place: Place, folder: RunFolder, record: ElsewhereRecord) -> None:
    """Cancel a job that was taken though it was stopped. Raises Stopped, or StudioError where it could not be."""
    try:
        cancel_with(Connection(place), record)
    except StudioError as error:
        raise StudioError(
            say("Job {job} was submitted to {place} before it was stopped.", job=record.job, place=place.name),
            kind=error.kind,
            advice=say('It could not be cancelled: qlora-studio elsewhere cancel "{path}"', path=folder.path),
            detail=error.detail or error.message,
        ) from error
    raise Stopped(place, say("Job {job} on {place} is cancelled: it was stopped.", job=record.job, place=place.name))


def _make_folder(connection: Connection, name: str) -> str:
    home = connection.place.folder
    [answer] = connection.ask(shell.make_folder(home, name))
    return answer.text


def _record_of(place: str, home: str, name: str) -> ElsewhereRecord:
    try:
        return ElsewhereRecord(place=place, home=home, name=name)
    except ValueError as error:
        raise StudioError(
            say(
                "The folder on {place} is {home} in full, which cannot be written in a job script.",
                place=place,
                home=home,
            ),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("Choose a folder there whose path is of plain letters, digits, dots and dashes."),
        ) from error


def _require(connection: Connection, paths: Sequence[str]) -> None:
    """Raise StudioError where a model is not there that the run names by its path."""
    for part in connection.ask(shell.missing(paths)) if paths else ():
        raise StudioError(
            say("There is no {path} on {place}.", path=part.text, place=connection.place.name),
            kind=FailureKind.MODEL_NOT_FOUND,
            advice=say("Say where the model lies there, or choose one of the hub."),
        )


def _left_there(place: Place, home: str, name: str) -> str:
    """Remove what was begun there; return its folder where that cannot be, else nothing."""
    if not home:
        return ""
    try:
        Connection(place).ask(shell.remove_folder(home, name), idle_seconds=_TIDYING_SECONDS)
    except StudioError:
        return f"{home}/{name}"
    return ""


def _with_what_is_left(error: BaseException, folder: str) -> BaseException:
    """Return what is to be raised where nothing was submitted, with the folder there that is left of it."""
    if isinstance(error, Stopped):
        error = StudioError(say("Nothing was submitted: it was stopped."), kind=FailureKind.INTERRUPTED)
    if folder and isinstance(error, StudioError):
        error.advice = (
            f"{error.advice} {say('What was sent is left in {folder} there: remove it.', folder=folder)}".strip()
        )
    return error


def _send_text(connection: Connection, folder: str, name: str, text: str) -> None:
    data = text.encode()
    connection.ask(shell.receive(folder, name, len(data)), [data])


def _keep(folder: RunFolder, name: str, text: str) -> None:
    write_atomically(folder.path / FOLDER / name, text.encode())


def _closed_record(folder: RunFolder) -> ElsewhereRecord:
    """Return the record of a run whose job is over; one that is just ending is waited for. Raises StudioError."""
    deadline = time.monotonic() + _CLOSING_SECONDS
    while (record := read_record(folder.path)) is not None and record.open:
        told = read_told(folder.path)
        ends = folder.state().phase.is_over and told is not None and told.standing in ("running", "over")
        if time.monotonic() > deadline or not ends:
            raise _busy(say("{name} has a job on {place} already.", name=folder.path.name, place=record.place))
        time.sleep(_POLL_SECONDS)
    if record is None:
        raise StudioError(
            say("{name} is a run of this computer.", name=folder.path.name),
            kind=FailureKind.USAGE,
            advice=say("Resume it here."),
        )
    return record


def _busy(message: str) -> StudioError:
    return StudioError(message, kind=FailureKind.RUN_BUSY, advice=say("Watch that one, or cancel it first."))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _word(command: Command) -> str:
    if isinstance(command, LowerRate):
        return "--lower-rate"
    return "--accept-changes" if isinstance(command, AcceptChanges) else ""


class _Upload:
    """Files on their way there, one after another, that tell how far they are."""

    def __init__(self, connection: Connection, folder: str, total: int, progress: Progress | None) -> None:
        self._connection, self._folder, self._total = connection, folder, total
        self._progress = progress
        self._done = 0

    def send(self, files: Sequence[SentFile]) -> None:
        """Send the files. Raises StudioError."""
        for file in files:
            [size] = self._connection.ask(shell.receive(self._folder, file.there, file.size), self._pieces(file))
            if size.numbers != (file.size,):
                raise StudioError(
                    say("{path} changed while it was sent.", path=file.path),
                    kind=FailureKind.DATA_REFUSED,
                    advice=say("Send the run again."),
                )

    def _pieces(self, file: SentFile) -> Iterator[bytes]:
        """Yield what is in a file; what was taken is counted as sent. Raises StudioError where it cannot be read."""
        try:
            with file.path.open("rb") as reading:
                while piece := reading.read(_PIECE):
                    yield piece
                    self._done += len(piece)
                    if self._progress is not None:
                        self._progress(self._done, self._total)
        except OSError as error:
            raise unreadable(file.path, error.strerror or str(error)) from error
