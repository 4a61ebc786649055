"""Reads runs for a comparison, from their folders alone: nothing of them is touched, whoever wrote them.

What was read is kept: a run that has ended is read once, and of one at work only what is new.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

from qlora_studio.core.comparison.run_record import RunReading, RunRecord
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.events import Event
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.storage.durable import DamagedManifest, NewerManifest, read_manifest
from qlora_studio.storage.run_care.run_label import name_of
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder, CheckpointManifest
from qlora_studio.storage.runs.event_log import EventLog
from qlora_studio.storage.runs.run_folder import RunFolder

_BATCH = 5_000  # events
_Stamp = tuple[tuple[int, int], ...]


class RunReadings:
    """What was read of runs so far. Threads may ask at once."""

    def __init__(self) -> None:
        self._records: dict[str, tuple[_Stamp, RunRecord]] = {}
        self._begun: dict[str, tuple[EventLog, RunReading]] = {}  # of runs that have not ended
        self._lock = threading.Lock()

    def read(self, path: str, name: str = "") -> RunRecord:
        """Return the record of a run as it is now, called by `name`, or as its user and its settings say.

        Raises StudioError and OSError where it cannot be read.
        """
        folder = RunFolder(path)
        with self._lock:
            stamp = _stamp(folder)
            known = self._records.get(path)
            if known is None or known[0] != stamp:
                known = self._records[path] = (stamp, self._read_on(folder))
        record = known[1]
        return replace(record, name=name or name_of(folder, record.config))

    def _read_on(self, folder: RunFolder) -> RunRecord:
        key, config = str(folder.path), folder.config()
        log, reading = self._begun.pop(key) if key in self._begun else (folder.event_log(), RunReading())
        try:
            for batch in _batches(log.all()):
                reading.extend(batch)
        except StudioError as error:
            if error.kind is not FailureKind.DAMAGED or not log.position:
                raise
            log, reading = folder.event_log(), RunReading()  # the events were replaced: another run has this name now
            for batch in _batches(log.all()):
                reading.extend(batch)
        record = reading.record(config.name, key, config, _made_from(folder))
        if not record.state.phase.is_over:
            self._begun[key] = (log, reading)
        return record


def _made_from(folder: RunFolder) -> Fingerprints:
    """Return what base and rows of a run are by content, as its newest checkpoint says; empty where none does."""
    for path in CheckpointFolder(folder.checkpoints_path).all():
        with suppress(DamagedManifest, NewerManifest):
            manifest = read_manifest(path, CheckpointManifest)
            return Fingerprints(base=manifest.base, data=manifest.data)
    return Fingerprints()


def _batches(events: Iterator[Event]) -> Iterator[list[Event]]:
    while batch := list(islice(events, _BATCH)):
        yield batch


def _stamp(folder: RunFolder) -> _Stamp:
    """Return what changes when a run goes on, or is replaced."""
    return tuple(_facts(path) for path in (folder.config_path, folder.events_path, folder.checkpoints_path))


def _facts(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
