"""What runs take of the disk, in bytes. A run that is as it was is not measured again."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from qlora_studio.storage.runs.run_folder import RunFolder

_Stamp = tuple[int, ...]  # of the folders in which whole things come and go, and of the log that grows


class DiskUse:
    """The sizes of runs, as they were measured last."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[_Stamp, int]] = {}

    def of(self, runs: Iterable[str]) -> dict[str, int]:
        """Return the size of each of these folders."""
        return {run: self._size(run) for run in runs}

    def _size(self, run: str) -> int:
        folder = RunFolder(run)
        rooms = (folder.path, folder.checkpoints_path, folder.adapter_path, folder.exports_path, folder.jobs_path)
        stamp = tuple(_last_change(path) for path in (*rooms, folder.events_path))
        if (known := self._known.get(run)) is None or known[0] != stamp:
            known = self._known[run] = (stamp, bytes_in(folder.path))
        return known[1]


def bytes_in(folder: Path) -> int:
    """Return what the files in a folder weigh together, each once, whatever names it has; no link is followed."""
    total, seen, waiting = 0, set[tuple[int, int]](), [str(folder)]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    continue
                found = entry.stat(follow_symlinks=False)
                if found.st_nlink > 1:
                    if (found.st_dev, found.st_ino) in seen:
                        continue
                    seen.add((found.st_dev, found.st_ino))
                total += found.st_size
    return total


def _last_change(path: Path) -> int:
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return 0
