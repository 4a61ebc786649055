"""The folder of a run, or of any other job: its files, its lock, its events and commands.

run.toml  job.json  events.jsonl  commands.jsonl  worker.log  run.lock  checkpoints/  adapter/  exports/  jobs/
"""

import hashlib
import os
import re
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_mapping, to_toml
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import Command
from qlora_studio.core.run.events import Event
from qlora_studio.core.run.job import Job, TrainJob, parse_job
from qlora_studio.core.run.run_state import RunState, fold
from qlora_studio.core.words import say
from qlora_studio.storage.durable import not_writable, write_atomically
from qlora_studio.storage.foreign import read_parsed, read_toml, unreadable
from qlora_studio.storage.permissions import mode_of_file, private_folder
from qlora_studio.storage.runs import trust
from qlora_studio.storage.runs.elsewhere_record import is_open_elsewhere
from qlora_studio.storage.runs.event_log import EventLog
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.own_files import require_own_files
from qlora_studio.storage.syncing import sync_folder

if TYPE_CHECKING:
    from qlora_studio.core.run.metric_history import MetricHistory

_NO_TEXT = re.compile("[\ud800-\udfff]")  # what Python makes of bytes that are none
_SHOWN = 200  # letters


class _Inside:
    """What lies in a folder under a name. Lists make a thousand folders at once, and ask for few of these paths."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: "RunFolder", _owner: object = None) -> Path:
        return folder.path / self._name


class RunFolder:
    """A folder that a worker works in. Nothing is created until something is written."""

    config_path = _Inside("run.toml")
    job_path = _Inside("job.json")
    events_path = _Inside("events.jsonl")
    commands_path = _Inside("commands.jsonl")
    log_path = _Inside("worker.log")
    lock_path = _Inside("run.lock")
    checkpoints_path = _Inside("checkpoints")
    adapter_path = _Inside("adapter")
    exports_path = _Inside("exports")
    jobs_path = _Inside("jobs")
    given_job = ""  # the sha256 of the job that this very object wrote: whoever makes a job starts it

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def config(self) -> RunConfig:
        """Return the run's config. Raises StudioError where there is none, or a broken one."""
        try:
            return from_mapping(read_toml(self.config_path, inside=self.path))
        except FileNotFoundError as error:
            raise StudioError(
                say("{path} is not a run: it has no run.toml.", path=self.path),
                kind=FailureKind.RUN_NOT_FOUND,
                advice=say("Name a run's own folder."),
            ) from error

    def write_config(self, config: RunConfig) -> None:
        """Write `run.toml`, whole or not at all; first it is recorded as this user's, so that no kill comes between."""
        text = to_toml(config).encode()
        trust.record(self.path, text)
        write_atomically(self.config_path, text)

    def job(self) -> Job:
        """Return what a worker is to do here: `job.json`, or training where there is none. Raises StudioError."""
        try:
            return read_parsed(self.job_path, parse_job, inside=self.path)
        except FileNotFoundError:
            return TrainJob()

    def write_job(self, job: Job) -> None:
        """Write `job.json`, whole or not at all."""
        text = job.model_dump_json(indent=1).encode()
        write_atomically(self.job_path, text)
        self.given_job = hashlib.sha256(text).hexdigest()

    def lock(self) -> FileLock:
        """Return the lock that a living worker holds; the operating system frees it when the worker dies."""
        return FileLock(self.lock_path, mode=mode_of_file(self.lock_path))

    def is_busy(self) -> bool:
        """Whether a living worker holds the lock, or the run may be at work on another computer."""
        return self.is_locked() or is_open_elsewhere(self.path)

    def is_locked(self) -> bool:
        """Whether a living worker, or the mirror of a run elsewhere, holds the lock."""
        if not self.lock_path.exists():
            return False
        try:
            with self.lock().acquire(blocking=False):
                return False
        except Timeout:
            return True
        except OSError:  # a read-only folder: nobody can work in it
            return False

    def events(self) -> Iterator[Event]:
        """Yield every event so far, and what could not be read of them; unknown kinds are passed over."""
        log = self.event_log()
        yield from log.all()
        if damage := log.new_damage():
            yield damage

    def event_log(self, *, offset: int = 0) -> EventLog:
        """Return a reader of the events. Of a run, which may come from anywhere, it takes no line of any length."""
        return EventLog(self.events_path, offset=offset, bounded=self.is_run())

    def is_run(self) -> bool:
        """Whether this is a run, or a folder that may be one, and not the folder of a job."""
        return self.config_path.exists() or not self.job_path.exists()

    def state(self) -> RunState:
        """Return what the events so far amount to."""
        return fold(RunState(), self.events())

    def replay(self) -> "tuple[RunState, MetricHistory]":
        """Return the state and the metric series of the events so far."""
        # Here, because it takes numpy, and the window's first paint does not wait for that.
        from qlora_studio.core.run.metric_history import MetricHistory

        events, history = tuple(self.events()), MetricHistory()
        history.extend(events)
        return fold(RunState(), events), history

    def send(self, command: Command) -> None:
        """Append a command for the worker. Raises StudioError where it cannot be written as text."""
        _require_text(command.model_dump())
        with MessageLogWriter(self.commands_path) as log:
            log.append(command)


def create_run_folder(runs: Path, config: RunConfig) -> RunFolder:
    """Create `runs/<time>-<name>/` with its `run.toml`. Raises StudioError where that cannot be written."""
    _require_text(config.model_dump())
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{folder_name(config.name)}"
    folder = RunFolder(make_folder(runs, stem))
    folder.write_config(config)
    return folder


def create_job_folder(parent: Path, job: Job) -> RunFolder:
    """Create a folder for a job under `parent`, with its `job.json`.

    Raises StudioError: of a run only if it is trusted, and has no links in the place of its files.
    """
    _require_text(job.model_dump())
    if run_dir := getattr(job, "run_dir", ""):
        trust.trusted_text(Path(run_dir))
        require_own_files(Path(run_dir))
    folder = RunFolder(make_folder(parent, f"{time.strftime('%Y%m%d-%H%M%S')}-{job.kind}"))
    folder.write_job(job)
    return folder


def _require_text(data: object) -> None:
    """Raise StudioError where a text in there cannot be written down: on Linux the name of a file may be any bytes."""
    if isinstance(data, dict):
        data = tuple(data.values())
    if isinstance(data, list | tuple):
        for part in data:
            _require_text(part)
    elif isinstance(data, str) and not data.isascii() and _NO_TEXT.search(data):
        raise StudioError(
            say("{text} holds bytes that are no text in UTF-8.", text=repr(data[:_SHOWN])),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("Give another name; rename the file or folder that is called so."),
        )


def make_folder(parent: Path, stem: str) -> Path:
    """Create `parent/stem`, or `stem-2` and so on where it exists. Raises StudioError where that cannot be."""
    for number in range(1, 10_000):
        path = parent / (stem if number == 1 else f"{stem}-{number}")
        try:
            private_folder(parent)
            path.mkdir(mode=0o700)
            sync_folder(parent)
        except FileExistsError:
            if parent.exists() and not parent.is_dir():
                break
            continue
        except OSError as error:
            raise not_writable(parent, error) from error
        return path
    raise not_writable(parent, FileExistsError(say("a file stands in the way")))


def folder_name(name: str) -> str:
    """Return `name` as a folder's name: letters, digits, dots, dashes and underscores of ASCII."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.")[:60] or "run"


def run_folders(runs: Path) -> list[RunFolder]:
    """Return the runs under a folder, newest first, those too that cannot be read. Raises StudioError."""
    try:
        with os.scandir(runs) as entries:
            found = [RunFolder(runs / entry.name) for entry in entries if _may_be_run(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(runs, error.strerror or str(error)) from error
    return sorted(found, key=lambda folder: folder.path.name, reverse=True)


def _may_be_run(entry: os.DirEntry[str]) -> bool:
    """Whether a folder has a run's settings or events, of whatever kind they are, or lets nobody look."""
    if entry.name.startswith(".") or not entry.is_dir():
        return False
    names = (os.path.join(entry.path, name) for name in ("run.toml", "events.jsonl"))  # noqa: PTH118  of very many
    return any(map(os.path.lexists, names)) or not os.access(entry.path, os.X_OK)
