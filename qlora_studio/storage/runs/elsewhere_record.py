"""That a run trains elsewhere, on record in its folder: where, as which job, and how it was seen there last.

    elsewhere/record.json  what is needed to find the run there     run.toml, job.sh  as they were sent
    elsewhere/told.json    the last `ElsewhereTold`                 mirror.log        what its mirror printed

A record counts where this user's data folder has it on record, too, that the run was sent there by them (`trust`):
what came with a folder that somebody else made says nothing about where a run is, which job is its, and whom it may
speak to.
"""

import os
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from qlora_studio.core.bounds import Amount
from qlora_studio.core.elsewhere.place import FULL_PATH
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.events import ElsewhereTold
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.foreign import read_parsed
from qlora_studio.storage.runs import trust

FOLDER = "elsewhere"
_RECORD, _TOLD = "record.json", "told.json"


class ElsewhereRecord(BaseModel):
    """Where a run is. `open` is whether its job may still be at work, or about to be.

    `name` is that of the run's folder in the place's folder `home`, in full. The first `events_before` bytes of
    events.jsonl are of earlier jobs, and the first `commands_sent` of commands.jsonl need not be passed on any more.
    `asked` is whether the scheduler was asked to take another job, and its answer is not known.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    place: Annotated[str, Field(max_length=64)]
    home: Annotated[str, Field(pattern=FULL_PATH, max_length=4096)]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=255)]
    job: Annotated[str, Field(pattern=r"^[0-9]*$", max_length=20)] = ""
    open: bool = False
    asked: bool = False
    events_before: Amount = 0
    commands_sent: Amount = 0

    @property
    def folder(self) -> str:
        """The run's folder there."""
        return str(PurePosixPath(self.home) / self.name)


def read_record(run: Path) -> ElsewhereRecord | None:
    """Return where a run is; None for one that is here, or that this user did not send. Its place may be forgotten.

    It was sent by the name that it has there, so a folder that was renamed here since is the same run. Raises
    StudioError where that cannot be read.
    """
    record = claimed_record(run)
    return record if record is not None and _is_sent(run, record) else None


def claimed_record(run: Path) -> ElsewhereRecord | None:
    """Return where a folder says that its run is, whoever wrote that. Raises StudioError where it cannot be read."""
    if not os.path.lexists(run / FOLDER):  # as of most runs, and this is asked often
        return None
    try:
        return read_parsed(run / FOLDER / _RECORD, ElsewhereRecord.model_validate_json, inside=run)
    except FileNotFoundError:
        return None


def known_record(run: Path) -> ElsewhereRecord | None:
    """Return where a run is; None for one that is here, or whose record cannot be read."""
    try:
        return read_record(run)
    except StudioError:
        return None


def write_record(run: Path, record: ElsewhereRecord) -> None:
    """Put on record where a run is. Raises StudioError."""
    write_atomically(run / FOLDER / _RECORD, record.model_dump_json(indent=1).encode())


def record_sent(run: Path, record: ElsewhereRecord) -> None:
    """Put on record among what is this user's own that a run was sent so; before its record is written first, and again
    with its job. Raises StudioError."""
    trust.record(run, _sent(record))


def record_network(run: Path, place: str, interface: str) -> None:
    """Put on record there that the user called the network of an interface trusted for a run. Raises StudioError."""
    trust.record(run, _network(place, interface))


def is_network_trusted(run: Path, place: str, interface: str) -> bool:
    """Whether the user called the network of an interface at a place trusted for a run."""
    return trust.is_recorded(run, _network(place, interface))


def _sent(record: ElsewhereRecord) -> bytes:
    return "\0".join(("", "sent", record.place, record.home, record.name, record.job)).encode()


def _is_sent(run: Path, record: ElsewhereRecord) -> bool:
    sent = _sent(record)
    return trust.is_recorded(run, sent) or trust.is_recorded_as(record.name, sent)


def _network(place: str, interface: str) -> bytes:
    return "\0".join(("", "network", place, interface)).encode()


def is_open_elsewhere(run: Path) -> bool:
    """Whether a run may be at work elsewhere."""
    try:
        record = read_record(run)
    except StudioError:
        return False
    return record is not None and record.open


def read_told(run: Path) -> ElsewhereTold | None:
    """Return how a run was seen elsewhere last; None where that is not known."""
    try:
        return read_parsed(_told_path(run), ElsewhereTold.model_validate_json, inside=run)
    except (FileNotFoundError, StudioError):
        return None


def write_told(run: Path, told: ElsewhereTold) -> None:
    """Keep how a run was seen elsewhere. Raises StudioError."""
    write_atomically(_told_path(run), told.model_dump_json().encode())


def told_stamp(run: Path) -> int:
    """Return what changes when a run is seen otherwise than before; 0 for one that is here."""
    try:
        return _told_path(run).stat().st_mtime_ns
    except OSError:
        return 0


def _told_path(run: Path) -> Path:
    return run / FOLDER / _TOLD
