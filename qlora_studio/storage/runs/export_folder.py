"""Exports on disk: a folder is there whole, with every byte synced and hashed, or it is not there.

Everything is written into a hidden staging folder beside the final place, on the same filesystem; then permissions are
set, files synced, the manifest with sizes and sha256 written last, the folder renamed and its parent synced. Nothing
that exists is replaced, and no link followed. What a killed export left behind is removed by the next one.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.storage.durable import MANIFEST, sha256_of, sync_file, sync_folder, umask

# Written beside a finished export later, by the verification; the manifest knows nothing of them.
VERIFICATION_FILES = ("verification.json", "verification.md")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_STAGING = re.compile(r"\.staging-(\d+)-.*")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class StagedExport:
    """An export that is being written into `path`. `hashes` holds the sha256 that a writer computed on its way."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)


@contextmanager
def staged_export(final: Path) -> Iterator[StagedExport]:
    """Yield a staging folder that becomes `final` when the block ends well, and vanishes else. Raises StudioError."""
    require_free_place(final)
    staging = final.parent / f".staging-{os.getpid()}-{final.name}"
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(final.parent)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        staged = StagedExport(staging)
        yield staged
        _seal(staged)
        require_free_place(final)
        staging.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise _in_words(final, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def safe_name(name: str) -> str:
    """Return `name` where it can be the name of an export or of a file in one. Raises StudioError."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise StudioError(
            f'"{name}" cannot be the name of an export.',
            kind=FailureKind.NOT_WRITABLE,
            advice="Use letters, digits, dots, dashes and underscores, beginning with a letter or digit.",
        )
    return name


def require_free_place(final: Path) -> None:
    """Raise StudioError where `final` has a name that is refused, or anything, even a dangling link, stands there."""
    safe_name(final.name)
    if os.path.lexists(final):
        raise StudioError(
            f"{final} exists already.",
            kind=FailureKind.NOT_WRITABLE,
            advice="Choose another name, or remove the old one first.",
        )


def remove_abandoned(parent: Path) -> list[Path]:
    """Remove the staging folders of processes that are gone; return them."""
    found = [(path, match) for path in parent.glob(".staging-*") if (match := _STAGING.fullmatch(path.name))]
    gone = [path for path, match in found if not path.is_symlink() and not psutil.pid_exists(int(match[1]))]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return gone


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an export. Raises StudioError where there is none that can be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        manifest["files"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudioError(
            f"{folder} is not a finished export: it has no readable manifest.json.",
            kind=FailureKind.DAMAGED,
            advice="Export again.",
        ) from error
    return dict(manifest)


def exports_of(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the finished exports in a folder with their manifests, newest first."""
    found = []
    for path in folder.glob("[!.]*") if folder.is_dir() else ():
        with suppress(StudioError):
            found.append((path, read_manifest(path)))
    return sorted(found, key=lambda item: -item[0].stat().st_mtime)


def damages(folder: Path) -> list[str]:
    """Return what disagrees with the manifest, in words; empty where every byte is as it was written."""
    found = []
    for name, entry in read_manifest(folder)["files"].items():
        path = folder / name
        if not path.is_file() or path.is_symlink():
            found.append(f"{name} is missing")
        elif path.stat().st_size != entry["size"]:
            found.append(f"{name} is {path.stat().st_size} bytes, not {entry['size']}")
        elif sha256_of(path) != entry["sha256"]:
            found.append(f"{name} has changed")
    return found


def _seal(staged: StagedExport) -> None:
    """Set permissions (safetensors makes files that no other user can read), sync, and write the manifest last."""
    mode = 0o666 & ~umask()
    files = {}
    for path in sorted(item for item in staged.path.rglob("*") if item.is_file()):
        path.chmod(mode)
        sync_file(path)
        name = path.relative_to(staged.path).as_posix()
        files[name] = {"size": path.stat().st_size, "sha256": staged.hashes.get(name) or sha256_of(path)}
    manifest = staged.path / MANIFEST
    manifest.write_text(json.dumps({**staged.facts, "files": files}, indent=1), encoding="utf-8")
    manifest.chmod(mode)
    sync_file(manifest)
    for path in [staged.path, *(item for item in staged.path.rglob("*") if item.is_dir())]:
        sync_folder(path)


def _in_words(final: Path, error: OSError) -> StudioError:
    if error.errno in _NO_SPACE or "No space left" in str(error):
        return StudioError(
            f"The disk became full while {final.name} was written.",
            kind=FailureKind.DISK_FULL,
            advice="Free some space and export again. Nothing half-made was left.",
            detail=str(error),
        )
    return StudioError(
        f"Cannot write {final}: {error.strerror or error}.",
        kind=FailureKind.NOT_WRITABLE,
        advice="Choose another folder, or give yourself permission to write there.",
        detail=str(error),
    )
