"""Files that are there whole or not at all: atomic writes, syncs, hashes, and manifests that list them."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError

MANIFEST = "manifest.json"


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` durably: a reader, or a crash, sees the old bytes or the new ones. Raises StudioError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o666 & ~umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise not_writable(path.parent, error) from error


def umask() -> int:
    """Return the permissions that new files of this process do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def not_writable(path: Path, error: OSError) -> StudioError:
    """Return the error of a folder that nothing can be written to, in words."""
    return StudioError(
        f"Cannot write to {path}: {error.strerror or error}.",
        kind=FailureKind.NOT_WRITABLE,
        advice="Choose another folder, or give yourself permission to write there.",
    )


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Sync every file of `folder`, write and sync the manifest with their sizes and hashes, then sync the folder."""
    files = {}
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        sync_file(path)
        files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({**facts, "files": files}, indent=1), encoding="utf-8")
    sync_file(manifest)
    for path in [item for item in folder.rglob("*") if item.is_dir()]:
        sync_folder(path)
    sync_folder(folder)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Return when the file's bytes are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Return when the folder's entries are on the disk. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
