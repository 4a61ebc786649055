"""What is done with a run that is elsewhere: its job is cancelled, its adapters are fetched."""

import shutil
from pathlib import Path

from qlora_studio.core.elsewhere import shell
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.jobs.elsewhere.connection import Connection
from qlora_studio.storage.durable import MANIFEST, DamagedManifest, NewerManifest, not_writable, read_manifest
from qlora_studio.storage.permissions import as_its_folder, private_folder
from qlora_studio.storage.places import place_named
from qlora_studio.storage.runs.checkpoint_folder import CheckpointManifest, DamagedCheckpoint, verify
from qlora_studio.storage.runs.elsewhere_record import ElsewhereRecord, read_record
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.staging import staging_path
from qlora_studio.storage.syncing import sync_file, sync_folder

_LARGEST_MANIFEST = 16 << 20  # bytes


def cancel_job(folder: RunFolder) -> None:
    """Take a run's job away from its scheduler. Raises StudioError."""
    record = _record(folder)
    if not record.open:
        raise StudioError(
            say("{name} has no job on {place} now.", name=folder.path.name, place=record.place),
            kind=FailureKind.NOT_AT_WORK,
        )
    cancel_with(Connection(place_named(record.place)), record)


def cancel_with(connection: Connection, record: ElsewhereRecord) -> None:
    """Take the job of a record away from its scheduler. Raises StudioError."""
    [answer] = connection.ask(shell.cancel(record.job), login=True)
    if answer.numbers != (0,):
        raise StudioError(
            say("{place} did not cancel the job: {said}", place=record.place, said=answer.text.strip()[-300:]),
            kind=FailureKind.NOT_REACHED,
        )


def fetch(folder: RunFolder, checkpoint: str = "final") -> Path:
    """Bring an adapter here, `final`, `best`, `last` or a step, and return its folder. Raises StudioError."""
    record = _record(folder)
    return fetch_with(Connection(place_named(record.place)), folder, record, checkpoint)


def fetch_with(connection: Connection, folder: RunFolder, record: ElsewhereRecord, checkpoint: str) -> Path:
    """Bring an adapter here by a connection that is there. What was fetched before is not fetched again."""
    name = "adapter" if checkpoint == "final" else f"checkpoints/{_chosen(connection, record, checkpoint)}"
    final, there = folder.path / name, f"{record.folder}/{name}"
    [manifest] = connection.ask(shell.files(there, [MANIFEST], _LARGEST_MANIFEST))
    if _is_here(final, manifest.data):
        return final
    staging = staging_path(final)
    try:
        private_folder(final.parent)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        _fetch_files(connection, there, manifest.data, staging)
        _verified(staging, final)
        as_its_folder(staging)
        shutil.rmtree(final, ignore_errors=True)
        staging.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise not_writable(final.parent, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return final


def _is_here(final: Path, manifest: bytes) -> bool:
    """Whether a folder was fetched before, as it is there now."""
    try:
        return (final / MANIFEST).read_bytes() == manifest and bool(verify(final))
    except (OSError, DamagedCheckpoint, NewerManifest):
        return False


def _fetch_files(connection: Connection, there: str, manifest: bytes, staging: Path) -> None:
    """Fetch what a folder's manifest lists, and nothing else; no name in it leads out of the folder."""
    (staging / MANIFEST).write_bytes(manifest)
    try:
        listed = read_manifest(staging, CheckpointManifest).files
    except DamagedManifest as error:
        raise _not_whole(staging.name, str(error)) from error
    for name, entry in listed.items():
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        connection.fetch(shell.files(there, [name], entry.size), staging / name)
        sync_file(staging / name)
    sync_file(staging / MANIFEST)
    sync_folder(staging)


def _verified(staging: Path, final: Path) -> None:
    try:
        verify(staging)
    except DamagedCheckpoint as error:
        raise _not_whole(final.name, str(error)) from error


def _chosen(connection: Connection, record: ElsewhereRecord, checkpoint: str) -> str:
    """Return the name of a checkpoint there: the best by its held-out loss, the last, or that of a step."""
    found: dict[int, float | None] = {}
    for part in connection.ask(shell.manifests(record.folder, _LARGEST_MANIFEST)):
        try:
            manifest = CheckpointManifest.model_validate_json(part.data)
        except ValueError:
            continue
        found[manifest.step] = manifest.evaluation_loss
    measured = {step: loss for step, loss in found.items() if loss is not None}
    step = checkpoint.removeprefix("checkpoint-")
    if checkpoint == "last" and found:
        return f"checkpoint-{max(found)}"
    if checkpoint == "best" and measured:
        return f"checkpoint-{min(measured, key=lambda item: (measured[item], -item))}"
    if step.isdigit() and int(step) in found:
        return f"checkpoint-{int(step)}"
    raise StudioError(
        say("There is no checkpoint {checkpoint} on {place}.", checkpoint=checkpoint, place=record.place),
        kind=FailureKind.RUN_NOT_FOUND,
        advice=say("There are: {steps}.", steps=", ".join(map(str, sorted(found))) or say("none")),
    )


def _record(folder: RunFolder) -> ElsewhereRecord:
    if (record := read_record(folder.path)) is None:
        raise StudioError(say("{name} is a run of this computer.", name=folder.path.name), kind=FailureKind.USAGE)
    return record


def _not_whole(name: str, why: str) -> StudioError:
    return StudioError(
        say("What came of {name} is not what was written there.", name=name),
        kind=FailureKind.DAMAGED_CHECKPOINT,
        advice=say("Fetch it again."),
        detail=why,
    )
