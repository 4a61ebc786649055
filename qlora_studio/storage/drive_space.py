"""What is to be written, drive by drive, beside what is free there. Sizes are bytes."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.path_text import is_there, whole_path
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say


@dataclass(frozen=True)
class Writing:
    """Something to be written under a folder, which need not exist yet."""

    folder: Path
    what: str
    size: int


@dataclass(frozen=True)
class DriveSpace:
    """A drive, by its mount point or letter, with what is to be written there. `free` is None where it is not known."""

    name: str
    free: int | None
    writings: tuple[Writing, ...]

    @property
    def needed(self) -> int:
        """All that is to be written there."""
        return sum(item.size for item in self.writings)

    @property
    def fits(self) -> bool:
        """Whether there is room for it, as far as is known."""
        return self.free is None or self.needed <= self.free


def drives(writings: Iterable[Writing]) -> tuple[DriveSpace, ...]:
    """Return the drives that something is to be written to, each once, those that lack space first."""
    by_drive: dict[int, tuple[Path, list[Writing]]] = {}
    for item in writings:
        place = _existing(item.folder)
        by_drive.setdefault(place.stat().st_dev, (place, []))[1].append(item)
    found = [DriveSpace(_mount_point(place), _free(place), tuple(items)) for place, items in by_drive.values()]
    return tuple(sorted(found, key=lambda drive: drive.fits))


def require_drives(writings: Iterable[Writing], what: str) -> None:
    """Raise StudioError where a drive has no room for what is to be written there."""
    for drive in drives(writings):
        if not drive.fits and drive.free is not None:
            parts = ", ".join(f"{item.what} {bytes_text(item.size)}" for item in drive.writings if item.size)
            raise StudioError(
                say(
                    "{what} needs {needed} on the drive {name}, which has {free} free ({parts}).",
                    what=what,
                    needed=bytes_text(drive.needed),
                    name=drive.name,
                    free=bytes_text(drive.free),
                    parts=parts,
                ),
                kind=FailureKind.DISK_FULL,
                advice=say(
                    "Free {needed} there, or choose another drive. None of that was written.",
                    needed=bytes_text(drive.needed - drive.free),
                ),
            )


def _existing(folder: Path) -> Path:
    whole = whole_path(folder).absolute()
    return next(path for path in (whole, *whole.parents) if is_there(path))


def _free(place: Path) -> int | None:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def _mount_point(place: Path) -> str:
    """Return the drive's letter on Windows, else the topmost folder of the same device."""
    if os.name == "nt":
        return place.anchor
    top = place.resolve()
    while top.parent != top and top.parent.stat().st_dev == top.stat().st_dev:
        top = top.parent
    return str(top)
