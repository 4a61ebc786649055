"""Bytes and names on the disk, not on their way there: what a power cut cannot take."""

import errno
import os
from contextlib import suppress
from pathlib import Path

_CANNOT = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)  # of folders, on some network drives, and where one may not read


def sync_file(path: Path) -> None:
    """Return when the file's bytes are on the disk. Windows asks for the right to write."""
    with path.open("rb+" if os.name == "nt" else "rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Return when the folder's entries are on the disk, where there is a call for that. Windows has none."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise


def sync_tree(folder: Path) -> None:
    """Return when everything in a folder is on the disk."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        elif path.is_file():
            sync_file(path)
    sync_folder(folder)


def sync_fetched(snapshot: Path) -> None:
    """Return when a snapshot of the hub's cache is on the disk, with the files that it links to.

    The hub's client syncs nothing: after a power cut a file could bear its name and be full of zeros.
    """
    with suppress(OSError):  # a cache that others keep
        sync_tree(snapshot.parents[1])
        for folder in snapshot.parents[2:4]:
            sync_folder(folder)


def make_folders(path: Path, mode: int = 0o777) -> None:
    """Make a folder, and those above it, durably where they are not there."""
    for folder in reversed([path, *path.parents]):
        if not folder.is_dir():
            folder.mkdir(mode=mode, exist_ok=True)
            sync_folder(folder.parent)
