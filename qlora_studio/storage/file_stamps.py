"""Stamps of files: they tell, without reading a file, that it is another than before. Equal stamps, the same file."""

import os
from contextlib import suppress
from pathlib import Path

from qlora_studio.core.path_text import whole_path

DATASET_DEPTH = 4  # folders within a folder in which a dataset's files are looked for
_MOST_FILES = 10_000
Stamp = tuple[tuple[str, int, int, int], ...]  # of each file: its name, bytes, and when it was written and changed


def stamp_of(path: Path, *, depth: int = 0) -> Stamp:
    """Return the stamp of a file, or of the files in a folder, but hidden ones; empty where there is nothing.

    `depth` is how many folders deep they are looked for. What a link leads to counts. Nothing is opened, or raised.
    """
    with suppress(OSError, ValueError):
        whole = whole_path(path)
        return tuple(sorted(_within(whole, depth))) if whole.is_dir() else (_stamp(whole, ""),)
    return ()


def _within(folder: Path, depth: int) -> list[tuple[str, int, int, int]]:
    found: list[tuple[str, int, int, int]] = []
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        folders[:] = [name for name in folders if name[0] != "."] if len(inside.parts) < depth else []
        for name in files:
            if name[0] != ".":
                with suppress(OSError):  # a link that leads nowhere, or a file that was just removed
                    found.append(_stamp(Path(place) / name, str(inside / name)))
        if len(found) > _MOST_FILES:
            break
    return found


def _stamp(path: Path, name: str) -> tuple[str, int, int, int]:
    stat = path.stat()
    return name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns  # no number: some network drives give it anew
