"""Who may read what is written: of runs and of data their user alone, of exports whoever may read the user's files.

A new file may be read by whoever may read its folder, and new folders of the program are their user's alone. So what a
user opens to others stays so: a run that a group may read gets checkpoints that it may read.
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qlora_studio.storage.syncing import make_folders

_PRIVATE = 0o700
_FILE = 0o666
_of_user: int | None = None  # what the user's files do not get, where this process keeps more to itself


def umask() -> int:
    """Return the permissions that the user's new files do not get."""
    if _of_user is not None:
        return _of_user
    mask = os.umask(0)
    os.umask(mask)
    return mask


def work_as(folder: Path) -> None:
    """Give whatever this process writes from now on, libraries included, to no more people than its folder."""
    global _of_user
    _of_user = umask()
    os.umask(_of_user | (0o777 & ~_mode(folder)))


@contextmanager
def as_the_user() -> Iterator[None]:
    """Write as the user's other programs do, for the time of the block: into the hub's cache, which they share."""
    before = os.umask(umask())
    try:
        yield
    finally:
        os.umask(before)


def umask_of_children() -> int:
    """Return what `subprocess` is to be told, so that children begin as this process did."""
    return -1 if _of_user is None or sys.platform == "win32" else _of_user


def private_folder(path: Path) -> Path:
    """Create a folder, and what is missing above it, for its user alone; what is there stays as it is. Return it."""
    make_folders(path, _PRIVATE)
    return path


def mode_of_file(path: Path) -> int:
    """Return the permissions of a file that is written anew: what it had, or what its folder allows."""
    try:
        found = path.lstat().st_mode
    except OSError:
        found = 0
    return stat.S_IMODE(found) & 0o777 if stat.S_ISREG(found) else _FILE & _mode(path.parent) & ~umask()


def as_its_folder(folder: Path) -> None:
    """Give all that is in a folder its permissions: some libraries make files that no other user can read."""
    mode = _mode(folder)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            give(path, mode if path.is_dir() else mode & _FILE)


def give(path: Path, mode: int) -> None:
    """Set permissions, where the file system has any of its own: exFAT and many network drives have none."""
    with suppress(OSError):
        path.chmod(mode)


def _mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode) & 0o777
