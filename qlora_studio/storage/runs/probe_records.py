"""The probes of this machine's cards, kept in the cache: what is lost there is measured again by the next run."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from qlora_studio.core.errors import StudioError
from qlora_studio.core.memory.probe_record import ProbeRecord
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.foreign import read_parsed
from qlora_studio.storage.settings import cache_path

_RECORDS: TypeAdapter[tuple[ProbeRecord, ...]] = TypeAdapter(Annotated[tuple[ProbeRecord, ...], Field(fail_fast=True)])
_MOST = 32


def probe_records() -> tuple[ProbeRecord, ...]:
    """Return all records, the oldest first; none where the file is missing or broken."""
    try:
        return read_parsed(_path(), _RECORDS.validate_json)
    except (OSError, StudioError):
        return ()


def remember_probe(record: ProbeRecord) -> None:
    """Keep a record in place of an older one of the same card, driver and versions. Raises StudioError."""
    others = [other for other in probe_records() if other.key != record.key]
    write_atomically(_path(), _RECORDS.dump_json((*others, record)[-_MOST:], indent=1))


def _path() -> Path:
    return cache_path() / "probes.json"
