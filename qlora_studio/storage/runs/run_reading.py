"""Reads a run for a comparison, from its folder alone: nothing of it is touched, and whoever wrote it."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from qlora_studio.core.run.events import Event
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.core.run.run_record import RunReading, RunRecord
from qlora_studio.storage.durable import DamagedManifest, NewerManifest, read_manifest
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder, CheckpointManifest
from qlora_studio.storage.runs.run_folder import RunFolder

_BATCH = 5_000  # events


def read_run(folder: RunFolder, name: str = "") -> RunRecord:
    """Return the record of a run, called by `name` or else as its settings say. Raises StudioError, OSError."""
    config = folder.config()
    reading = RunReading(name or config.name, str(folder.path), config, made_from(folder))
    for batch in _batches(folder.events()):
        reading.extend(batch)
    return reading.record()


def made_from(folder: RunFolder) -> Fingerprints:
    """Return what base and rows of a run are by content, as its newest checkpoint says; empty where none does."""
    for path in CheckpointFolder(folder.checkpoints_path).all():
        with suppress(DamagedManifest, NewerManifest):
            manifest = read_manifest(path, CheckpointManifest)
            return Fingerprints(base=manifest.base, data=manifest.data)
    return Fingerprints()


def _batches(events: Iterator[Event]) -> Iterator[list[Event]]:
    while batch := list(islice(events, _BATCH)):
        yield batch
