"""The mirror of a run elsewhere: it stands here in the worker's place, and holds the run's lock as a worker does.

It appends to events.jsonl and worker.log what is new in those there, byte for byte, so that the files here are always
the beginnings of the files there; it passes on what is asked in commands.jsonl, and fetches the final adapter before it
passes on that it was saved. While the place is not reached nothing is concluded. Once the scheduler calls the job over,
and the run itself told no ending, its ending is told there, in the scheduler's words: so there is one history.
"""

import re
import sys
import time
from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from qlora_studio.core.elsewhere import shell
from qlora_studio.core.elsewhere.job_state import JobState, Standing, ending_words, job_state
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.core.run.commands import Command, Pause, Stop, parse_command
from qlora_studio.core.run.events import ElsewhereTold, Failed, Finished, Paused, TerminalEvent, WorkerStarted
from qlora_studio.core.words import say
from qlora_studio.jobs.elsewhere import acts
from qlora_studio.jobs.elsewhere.connection import Connection, NotReached
from qlora_studio.storage.durable import not_writable
from qlora_studio.storage.places import place_named
from qlora_studio.storage.runs.elsewhere_record import read_record, read_told, write_record, write_told
from qlora_studio.storage.runs.message_log import MessageLogReader
from qlora_studio.storage.runs.own_files import opened_log, require_own_files
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.trusted_run import require_startable

_LIMITS = (1 << 21, 1 << 18)  # bytes of events and of the log that one look brings
_SECONDS = {Standing.WAITING: 10.0, Standing.RUNNING: 3.0}  # between two looks
_SECONDS_HERE = 0.5  # where no connection is made for it
_RETRY_SECONDS = (5.0, 10.0, 20.0, 60.0)  # until a place is tried again that was not reached
_SETTLED_SECONDS = 20.0  # after which what a node wrote last is surely seen from another one
_SLICE_SECONDS = 0.2
_CLOCK_SECONDS = 60.0
_SAVED = re.compile(rb'"type": ?"adapter_saved"')


def mirror(path: str) -> int:
    """Follow the run in the folder at `path` until its job is over; return the exit code."""
    folder = RunFolder(path)
    try:
        require_startable(folder)
        require_own_files(folder.path)
        with folder.lock().acquire(timeout=1.0, poll_interval=0.05):
            _Mirror(folder).follow()
    except Timeout:
        return ExitCode.RUN_BUSY
    except StudioError as error:
        print(f"{error.message} {error.advice}\n{error.detail}", file=sys.stderr)
        _tell_problem(folder, error)
        return error.kind.exit_code
    return ExitCode.OK


def _tell_problem(folder: RunFolder, error: StudioError) -> None:
    with suppress(StudioError, OSError):
        told = read_told(folder.path) or ElsewhereTold(place="")
        write_told(folder.path, told.model_copy(update={"problem": f"{error.message} {error.advice}".strip()}))


class _Mirror:
    def __init__(self, folder: RunFolder) -> None:
        record = read_record(folder.path)
        assert record is not None  # it was started for one that has a record
        self._folder, self._record = folder, record
        self._place = place_named(record.place)
        self._connection = Connection(self._place)
        self._log = folder.event_log(offset=record.events_before)  # of this job alone
        self._in_session = False
        self._ending: TerminalEvent | None = None
        self._told = read_told(folder.path) or ElsewhereTold(place=record.place, job=record.job)
        self._written = self._told
        self._job: JobState | None = None
        self._over_since = 0.0
        self._reached = time.time()
        self._tries = 0
        self._problem = ""

    def follow(self) -> None:
        """Look, until the job is over."""
        self._read()
        while self._record.open:
            more = False
            try:
                more = self._look()
                self._reached, self._tries = time.time(), 0
            except NotReached as error:
                self._tries += 1
                self._tell(unreached_since=self._told.unreached_since or self._reached, problem=_sentence(error))
            except StudioError as error:  # of the folder there, or the disk here: it may be mended
                self._tries += 1
                self._tell(problem=_sentence(error))
            except OSError as error:
                self._tries += 1
                self._tell(problem=_sentence(not_writable(self._folder.path, error)))
            if self._record.open and not more:
                self._wait()

    def _look(self) -> bool:
        """Take over what is new there; return whether there is more. Raises NotReached, StudioError."""
        events, log = self._folder.events_path, self._folder.log_path
        script = shell.look(self._record.folder, self._record.job, (_size(events), _size(log)), _LIMITS)
        found = {part.name: part for part in self._connection.ask(script, login=True)}
        self._set_clock(found[shell.CLOCK].numbers[0])
        queue, account, control = (found.get(name) for name in ("queue", "account", "control"))
        assert queue is not None
        job = job_state(queue.text, queue.numbers[0], account.text if account else "", control.text if control else "")
        if job is None:
            raise NotReached(say("The scheduler of {place} did not answer.", place=self._place.name), detail=queue.text)
        if shell.REMOVED in found:
            self._judge_removed(job)
            return False
        self._append(log, found["log"])
        more = self._append_events(found["events"])
        self._read()
        self._judge(job, found["output"].text, is_all=not more)
        self._pass_on()
        return more

    def _append_events(self, part: shell.Part) -> bool:
        """Append whole lines; return whether there is more. The adapter is fetched before it is said to be saved."""
        [size] = part.numbers
        if size < _size(self._folder.events_path):
            raise StudioError(
                say("The run's events on {place} are not those that are known here.", place=self._place.name),
                kind=FailureKind.DAMAGED,
            )
        data = part.data[: part.data.rfind(b"\n") + 1] or (part.data if len(part.data) == _LIMITS[0] else b"")
        if _SAVED.search(data):
            self._fetch_adapter()
        with opened_log(self._folder.events_path) as file:
            file.write(data)
        return _size(self._folder.events_path) < size and bool(data)

    def _append(self, path: Path, part: shell.Part) -> None:
        with opened_log(path) as file:
            file.write(part.data)

    def _fetch_adapter(self) -> None:
        """Fetch the adapter. Where that fails here, the run's history goes on, and the reason is told."""
        try:
            acts.fetch_with(self._connection, self._folder, self._record, "final")
            self._problem = ""
        except NotReached:
            raise
        except (StudioError, OSError) as error:
            self._problem = say("The adapter could not be fetched: {why}", why=str(error))

    def _read(self) -> None:
        """Learn from the events how the run's session stands."""
        for event in self._log.all():
            if isinstance(event, WorkerStarted):
                self._in_session, self._ending = True, None
            elif isinstance(event, Finished | Failed | Paused):
                self._in_session, self._ending = False, event

    def _judge(self, job: JobState, output: str, *, is_all: bool) -> None:
        """Tell how the job stands; where it is over, so is this, once the run's own ending is told."""
        self._job = job
        self._in_session = self._in_session and job.standing is not Standing.WAITING  # else its node was lost
        standing = "over" if job.is_over else job.standing.value
        self._tell(standing=standing, state=job.word, reason=job.reason, node=job.node, problem=self._problem)
        if not job.is_over or not is_all:
            self._over_since = 0.0
            return
        self._over_since = self._over_since or time.monotonic()
        if self._ending is None:
            waited = time.monotonic() - self._over_since
            if waited >= (_SETTLED_SECONDS if not self._place.is_here else 2 * _SECONDS_HERE):
                self._tell_ending(_ending(job, output))
            return
        self._keep(open=False)

    def _judge_removed(self, job: JobState) -> None:
        """Tell that the folder there was deleted; once the job is over, the run has ended here, and is closed."""
        words = say("The folder of the run on {place} was deleted: what is here is all of it.", place=self._place.name)
        self._job = job
        self._tell(standing="over" if job.is_over else job.standing.value, state=job.word, problem=words)
        if not job.is_over:
            return
        if self._ending is None:
            ending = Failed(kind=FailureKind.NOT_READABLE, message=words, time=self._now())
            with opened_log(self._folder.events_path) as file:
                file.write(ending.to_line().encode())
        self._keep(open=False)

    def _set_clock(self, there: int) -> None:
        """Note by how much the clock there is ahead, where that is more than an answer takes."""
        ahead = there - time.time()
        if abs(ahead - self._told.clock_ahead) > _CLOCK_SECONDS:
            self._told = self._told.model_copy(update={"clock_ahead": 0.0 if abs(ahead) < _CLOCK_SECONDS else ahead})

    def _now(self) -> float:
        """The time there, which all events of the run have."""
        return max(0.0, time.time() + self._told.clock_ahead)

    def _tell_ending(self, ending: TerminalEvent) -> None:
        """Put on record there, and so here, how the run ended that did not say so itself."""
        size, line = _size(self._folder.events_path), ending.model_copy(update={"time": self._now()}).to_line()
        self._append_there("events.jsonl", [line.encode()], size)

    def _pass_on(self) -> None:
        """Pass on what was asked. While the job waits there is nobody to pause: it is taken out of the queue."""
        reader: MessageLogReader[Command] = MessageLogReader(
            self._folder.commands_path, parse_command, offset=self._record.commands_sent
        )
        asked = reader.new()
        if not asked or self._job is None or not self._record.open:
            return
        if self._in_session:
            lines = [command.to_line().encode() for command in asked]
            self._append_there("commands.jsonl", lines)
        elif self._job.standing is Standing.WAITING:
            ends = [command for command in asked if isinstance(command, Pause | Stop)]
            if not ends:
                return
            acts.cancel_with(self._connection, self._record)
            self._tell_ending(_ending_of_waiting(ends[-1], self._folder))
        else:
            return  # it is about to begin: it is asked then
        self._keep(commands_sent=reader.position)

    def _append_there(self, name: str, lines: list[bytes], size: int | None = None) -> None:
        self._connection.ask(shell.append(self._record.folder, name, sum(map(len, lines)), size), lines)

    def _keep(self, **changes: object) -> None:
        record = self._record.model_copy(update=changes)
        write_record(self._folder.path, record)
        self._record = record

    def _tell(self, *, unreached_since: float = 0.0, **facts: object) -> None:
        """Tell how the run stands, where that is something new."""
        told = self._told.model_copy(update={"unreached_since": unreached_since, **facts})
        if told != self._written:
            self._told = told.model_copy(update={"time": time.time()})
            with suppress(StudioError):  # no room here: it is told once there is
                write_told(self._folder.path, self._told)
                self._written = self._told

    def _wait(self) -> None:
        """Wait until it is time for the next look, or something is asked."""
        seconds = _SECONDS.get(self._job.standing, 3.0) if self._job else 3.0
        if self._place.is_here:
            seconds = _SECONDS_HERE
        if self._tries:
            seconds = _RETRY_SECONDS[min(self._tries, len(_RETRY_SECONDS)) - 1]
        size, until = _size(self._folder.commands_path), time.monotonic() + seconds
        while time.monotonic() < until and _size(self._folder.commands_path) == size:
            time.sleep(_SLICE_SECONDS)


def _ending(job: JobState, output: str) -> TerminalEvent:
    """Return how a run ended whose job is over and that did not say so."""
    kind = FailureKind.INTERRUPTED if job.word == "CANCELLED" else FailureKind.WORKER_DIED
    advice = say("Resume submits it again: it goes on from its newest safe checkpoint, if there is one.")
    return Failed(kind=kind, message=ending_words(job), advice=advice, detail=output)


def _ending_of_waiting(command: Command, folder: RunFolder) -> TerminalEvent:
    """Return how a run ended that was taken out of the queue."""
    state = folder.state()
    if isinstance(command, Stop):
        return Finished(status="stopped")
    message = say("Taken out of the queue before it began.")
    return Paused(step=state.step, checkpoint=state.checkpoint.name if state.checkpoint else "", message=message)


def _sentence(error: StudioError) -> str:
    return f"{error.message} {error.advice}".strip()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
