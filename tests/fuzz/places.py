"""What may stand in the place of a file that is read: things that never end, lead elsewhere, or are not there."""

import os
from collections.abc import Callable
from pathlib import Path

_HUGE = 1 << 28  # what streams such a file takes a second for it, and no memory


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(_HUGE)


def _head_and_hole(path: Path) -> None:
    """Keep the beginning as it should be, and let nothing follow, for a long time."""
    with path.open("ab") as file:
        file.truncate(_HUGE)


def _instead(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _unreadable(path: Path) -> None:
    path.chmod(0)


PLACES: dict[str, Callable[[Path], None]] = {
    "nothing": Path.unlink,
    "an empty file": lambda path: _instead(path, Path.touch),
    "a folder": lambda path: _instead(path, Path.mkdir),
    "a pipe": lambda path: _instead(path, os.mkfifo),
    "a link to /dev/zero": lambda path: _instead(path, lambda place: place.symlink_to("/dev/zero")),
    "a link to nothing": lambda path: _instead(path, lambda place: place.symlink_to("/nowhere/at/all")),
    "a link to itself": lambda path: _instead(path, lambda place: place.symlink_to(place.name)),
    "256 MB of zeros": lambda path: _instead(path, _sparse),
    "its beginning and 256 MB of zeros": _head_and_hole,
    "a file that may not be read": _unreadable,
}
