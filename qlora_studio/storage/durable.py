"""Files that are there whole or not at all: atomic writes, syncs, hashes, staged folders, and manifests that list them.

A folder is written under a hidden name beside its place, on the same filesystem; each file is synced, the manifest with
sizes and sha256 written last and synced, the folder renamed and its parent synced, as is every folder that was made on
the way there. A manifest has a checksum of its own, so a bit that flips in it is noticed too. The rule of the checksum
holds for every version, also for later ones.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from qlora_studio.core.errors import FULL_DISK, FailureKind, StudioError
from qlora_studio.core.run.fingerprint import FileEntry
from qlora_studio.core.words import say
from qlora_studio.storage.foreign import read_bytes
from qlora_studio.storage.permissions import as_its_folder, give, mode_of_file, private_folder
from qlora_studio.storage.staging import REPLACED, remove_abandoned, restore_replaced, staging_path
from qlora_studio.storage.syncing import sync_file, sync_folder

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
_LARGEST = 16 << 20  # bytes of a manifest


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` durably: a reader, or a crash, sees the old bytes or the new ones. Raises StudioError.

    A link of that name is replaced, and never followed.
    """
    try:
        mode = mode_of_file(private_folder(path.parent) / path.name)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=staging_path(path.with_name("_")).name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            give(Path(name), mode)
            Path(name).replace(path)
            sync_folder(path.parent)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise not_writable(path.parent, error) from error


def not_writable(path: Path, error: OSError) -> StudioError:
    """Return the error of a folder that nothing can be written to, in words."""
    is_full = error.errno in FULL_DISK
    return StudioError(
        say("Cannot write to {path}: {strerror}.", path=path, strerror=error.strerror or error),
        kind=FailureKind.DISK_FULL if is_full else FailureKind.NOT_WRITABLE,
        advice=say("Free some space there, or choose another folder.")
        if is_full
        else say("Choose another folder, or give yourself permission to write there."),
    )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(name: str) -> str:
    """Return a file's name where it leads nowhere but into the folder, on any system."""
    leads_out = PureWindowsPath(name).anchor or {".", ".."} & set(name.split("/"))
    if leads_out or "\\" in name or "\0" in name or PurePosixPath(name).as_posix() != name:
        raise ValueError(f"{name!r} leads out of the folder")
    return name


FileName = Annotated[str, StringConstraints(min_length=1), AfterValidator(_inside)]


class Manifest(BaseModel):
    """The files of a folder, with `checksum` over all that the manifest says. Version 0 had neither of the two.

    Each kind of folder has a kind of its own with its facts; what a kind does not know is passed over.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    version: int = MANIFEST_VERSION
    files: dict[FileName, FileEntry] = Field(default_factory=dict)
    checksum: str = ""

    @property
    def size_bytes(self) -> int:
        """What the files weigh together."""
        return sum(entry.size for entry in self.files.values())


M = TypeVar("M", bound=Manifest)


class DamagedManifest(Exception):
    """A folder whose manifest is missing, cannot be read, or is not as it was written."""


class NewerManifest(StudioError):
    """A folder that a later version of the program wrote: whole, and not for this one to use, mend or remove."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} was written by a newer version: update QLoRA Studio.",
            kind=FailureKind.NEWER_VERSION,
            advice="Update QLoRA Studio, or use what this version wrote.",
        )


def write_manifest(folder: Path, manifest: Manifest, hashes: Mapping[str, str] | None = None) -> None:
    """Sync every file of `folder`, write and sync the manifest with their sizes and hashes, then sync the folder.

    `hashes` are those that a writer computed on its way, by the names of the files.
    """
    entries = {}
    for path in sorted(item for item in folder.rglob("*") if item.is_file() and item != folder / MANIFEST):
        sync_file(path)
        name = path.relative_to(folder).as_posix()
        entries[name] = {"size": path.stat().st_size, "sha256": (hashes or {}).get(name) or sha256_of(path)}
    told = manifest.model_dump(mode="json", exclude_unset=True, exclude={"version", "files", "checksum"})
    facts = {"version": MANIFEST_VERSION, **told, "files": entries}
    place = folder / MANIFEST
    text = json.dumps({**facts, "checksum": _checksum(facts)}, indent=1, ensure_ascii=False)
    place.write_text(text, encoding="utf-8")
    sync_file(place)
    for path in [item for item in folder.rglob("*") if item.is_dir()]:
        sync_folder(path)
    sync_folder(folder)


def read_manifest(folder: Path, kind: type[M]) -> M:
    """Return the manifest of a folder. Raises DamagedManifest, and NewerManifest where a later version wrote it."""
    try:
        facts = _facts(read_bytes(folder / MANIFEST, limit=_LARGEST, inside=folder))
        if facts["version"] <= MANIFEST_VERSION:
            return kind.model_validate(facts)
    except (OSError, StudioError, ValueError, RecursionError) as error:
        raise DamagedManifest(f"{folder.name} has no readable manifest") from error
    raise NewerManifest(folder)


def _facts(data: bytes) -> dict[str, Any]:
    """Return what a manifest says, once its checksum agrees. Raises ValueError."""
    facts = json.loads(data.decode("utf-8"), parse_constant=lambda word: None)  # NaN: not measured
    if not isinstance(facts, dict) or "files" not in facts:
        raise ValueError("it lists no files")
    if "version" not in facts and "checksum" not in facts:
        return {**facts, "version": 0}
    if facts.get("checksum") != _checksum(facts):
        raise ValueError("its checksum does not agree")
    if type(facts.get("version")) is not int or facts["version"] < 1:
        raise ValueError("its version is none")
    return facts


def _checksum(facts: Mapping[str, Any]) -> str:
    """Return the sha256 of everything but the checksum, as JSON without spaces and with sorted keys."""
    told = {key: value for key, value in facts.items() if key != "checksum"}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def disagreements(folder: Path, manifest: Manifest, *, hashed: bool = True) -> Iterator[str]:
    """Yield what of the listed files is not as it was written, in words. Without `hashed`, sizes alone are compared."""
    for name, entry in manifest.files.items():
        try:
            if why := _disagreement(folder, folder / name, entry, hashed=hashed):
                yield f"{name} {why}"
        except OSError as error:
            yield f"{name} cannot be read: {error.strerror}"


def _disagreement(folder: Path, path: Path, entry: FileEntry, *, hashed: bool) -> str:
    is_elsewhere = path.is_symlink() or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    if is_elsewhere or not path.is_file():
        return "is missing"
    if (size := path.stat().st_size) != entry.size:
        return f"is {size} bytes, not {entry.size}"
    return "has changed on disk" if hashed and sha256_of(path) != entry.sha256 else ""


@dataclass
class StagedFolder:
    """A folder that is being written into `path`. `hashes` holds the sha256 that a writer computed on its way."""

    path: Path
    manifest: Manifest = field(default_factory=Manifest)
    hashes: dict[str, str] = field(default_factory=dict)


@contextmanager
def staged_folder(final: Path, *, replace: bool = False) -> Iterator[StagedFolder]:
    """Yield a folder that becomes `final`, with its manifest, when the block ends well, and vanishes else.

    Where `replace`, what stands there stays until the new one has its name: a kill leaves it under `.replaced-`. Else
    FileExistsError is raised where anything, even a dangling link, stands there in the end.
    """
    staging = staging_path(final)
    private_folder(final.parent)
    remove_abandoned(final.parent)
    if replace:
        restore_replaced(final.parent)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        staged = StagedFolder(staging)
        yield staged
        write_manifest(staging, staged.manifest, staged.hashes)
        as_its_folder(staging)
        _put_in_place(staging, final, replace=replace)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _put_in_place(staging: Path, final: Path, *, replace: bool) -> None:
    """Rename, durably."""
    replaced = final.with_name(f"{REPLACED}{final.name}")
    if os.path.lexists(final):
        if not replace:
            raise FileExistsError(f"{final} exists already")
        shutil.rmtree(replaced, ignore_errors=True)
        final.rename(replaced)
    staging.rename(final)
    sync_folder(final.parent)
    if replace:
        shutil.rmtree(replaced, ignore_errors=True)
