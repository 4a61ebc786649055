"""Bases in 4 bits that are kept in the cache: which there are, what they are called, and whether another has room."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from qlora_studio.core.bounds import Words
from qlora_studio.storage.durable import DamagedManifest, Manifest, NewerManifest, read_manifest
from qlora_studio.storage.settings import cache_path

ROOM = 4  # bases, the last that were used
_TIMES_FREE = 3  # as much as one takes


class KeptManifest(Manifest):
    """The facts of a base in 4 bits: what it was made from, in words."""

    base: Words


def kept_path() -> Path:
    """Return the folder of them all."""
    return cache_path() / "bases"


def kept_bases() -> list[Path]:
    """Return their folders, the last that was used first."""
    with suppress(OSError):
        folders = [path for path in kept_path().iterdir() if path.is_dir() and not path.name.startswith(".")]
        return sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)
    return []


def kept_name(folder: Path) -> str:
    """Return what a kept base was made from; the folder's own name where it does not say."""
    try:
        return read_manifest(folder, KeptManifest).base
    except (DamagedManifest, NewerManifest):
        return folder.name


def remove_oldest() -> None:
    """Let go of those that were not used for longest."""
    for folder in kept_bases()[ROOM:]:
        remove_kept(folder)


def remove_kept(place: Path) -> None:
    """Remove a kept base, or what stands in its place; what cannot be removed stays."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
        return
    with suppress(OSError):
        place.unlink()


def missing_room(size: int) -> Iterator[int]:
    """Yield how many bytes are free on the cache's drive, where that is too little to keep `size` of them."""
    with suppress(OSError):
        free = shutil.disk_usage(next(path for path in kept_path().parents if path.exists())).free
        if free < _TIMES_FREE * size:
            yield free
