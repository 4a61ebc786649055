"""What is written in a run's folder lies in it: a link or a pipe that bears one of its names is nobody's to write to.

A folder that somebody made elsewhere may hold an `events.jsonl` that is a link to a file of the user's.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.permissions import mode_of_file

_WITHIN = ("checkpoints", "adapter", "exports", "jobs", "elsewhere")


def require_own_files(folder: Path) -> None:
    """Raise StudioError where something in the folder of a run or job, or in those within, is a link or a pipe.

    The folder itself may be reached by a link: that is the user's.
    """
    for place in (folder, *(folder / name for name in _WITHIN)):
        try:
            names = sorted(place.iterdir())
        except OSError:  # none, or none that anybody can work in
            continue
        for path in names:
            require_own_file(path)


def require_own_file(path: Path) -> None:
    """Raise StudioError where a name is that of something else than a file or a folder. Nothing may be there yet."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        what = "a link, which may lead out of the folder" if stat.S_ISLNK(mode) else "no regular file"
        raise StudioError(
            say("Nothing is written in {parent}: {name} is {what}.", parent=path.parent, name=path.name, what=what),
            kind=FailureKind.NOT_WRITABLE,
            advice=say("Remove it, or put the file or folder that it leads to in its place."),
        )


def opened_log(path: Path) -> BinaryIO:
    """Return a log, to be written on at its end. Raises StudioError where its name is that of something else."""
    require_own_file(path)
    mode = mode_of_file(path)
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags, mode))
