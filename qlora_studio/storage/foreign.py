"""Files that somebody else may have written, read within limits: regular files alone, of a size, inside their folder.

A pipe or a device that bears a file's name is never waited for, and a link that leads out of its folder is never
followed. What is in the file is read by `core/foreign_text.py`. `FileNotFoundError` is the caller's to judge; all else
is a StudioError that names the file and says why.
"""

import errno
import os
import re
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from qlora_studio.core.errors import FailureKind, InvalidRunConfig, Problem, StudioError
from qlora_studio.core.foreign_text import LARGEST_JSON, LARGEST_TOML, Unreadable, json_table, toml_table
from qlora_studio.core.words import say

T = TypeVar("T")
SMALL = 1 << 20  # bytes: enough for settings, a queue, a report
_SHARED = re.compile(r"[0-9a-f]{64}")  # the name of a blob that repositories share
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # of Windows there is none


def read_bytes(path: Path, *, limit: int, inside: Path | None = None) -> bytes:
    """Return the bytes of a regular file of at most `limit` of them.

    With `inside`, the file must truly lie in that folder, whatever links are on the way. Raises FileNotFoundError where
    there is nothing, StudioError (NOT_READABLE) for all else.
    """
    with os.fdopen(open_regular(path, inside=inside), "rb") as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise unreadable(path, error.strerror or str(error)) from error
    if len(data) > limit:
        raise unreadable(path, say("it is larger than {limit:,} bytes", limit=limit))
    return data


def open_regular(path: Path, *, inside: Path | None = None) -> int:
    """Return a descriptor for reading a regular file, which the caller closes. Raises as `read_bytes` does."""
    flags = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if (descriptor := _opened_in(path, inside, flags)) is None:
            real = Path(os.path.realpath(path, strict=True))
            if inside is not None and not real.is_relative_to(os.path.realpath(inside)):
                raise unreadable(path, say("it is a link that leads out of its folder"))
            descriptor = os.open(real, flags)
    except (FileNotFoundError, NotADirectoryError):
        if _is_link(path):  # it leads nowhere
            raise unreadable(path, say("it is a link that leads nowhere")) from None
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except (OSError, ValueError) as error:
        raise unreadable(path, getattr(error, "strerror", None) or str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise unreadable(path, say("it is no regular file"))
    return descriptor


def _is_link(path: Path) -> bool:
    with suppress(OSError):  # a name that is too long for the system, in a folder that is not there
        return path.is_symlink()
    return False


def _opened_in(path: Path, inside: Path | None, flags: int) -> int | None:
    """Return a file that lies in the folder itself and is no link: there is no way out, and no need to walk it."""
    if not _NO_LINK or path.parent != inside or path.name in ("", ".."):
        return None
    try:
        return os.open(path, flags)
    except (
        FileNotFoundError
    ):  # a link that leads nowhere is told otherwise: nothing is there, which is so of most lists
        raise
    except OSError:
        return None


def read_json(
    path: Path, *, limit: int = LARGEST_JSON, inside: Path | None = None, infinite: bool = False
) -> dict[str, Any]:
    """Return the table in a JSON file, by the rules of `json_value`. Raises as `read_bytes` does."""
    data = read_bytes(path, limit=limit, inside=inside)
    try:
        return json_table(data, limit=limit, infinite=infinite)
    except Unreadable as error:
        raise unreadable(path, str(error)) from error


def read_toml(path: Path, *, limit: int = LARGEST_TOML, inside: Path | None = None) -> dict[str, Any]:
    """Return the table in a TOML file. Raises FileNotFoundError, or InvalidRunConfig with the file and the reason."""
    data = read_bytes(path, limit=limit, inside=inside)
    try:
        return toml_table(data, limit=limit)
    except Unreadable as error:
        raise InvalidRunConfig(
            (Problem("", say("{path} cannot be read: {error}.", path=path, error=error)),)
        ) from error


def read_parsed(path: Path, parse: Callable[[bytes], T], *, limit: int = SMALL, inside: Path | None = None) -> T:
    """Return what `parse` makes of a file. It raises ValueError where the file does not say what it should.

    Such is a pydantic model's `model_validate_json`, which nests no deeper than its types. Raises as `read_bytes` does.
    """
    data = read_bytes(path, limit=limit, inside=inside)
    try:
        return parse(data)
    except Unreadable as error:
        raise unreadable(path, str(error)) from error
    except ValueError as error:
        raise unreadable(path, say("it does not say what it should")) from error


def set_aside(path: Path) -> Path:
    """Rename a file of the program's own that cannot be read, so that it is not written over; return where it is."""
    return path.rename(path.with_name(f"{path.name}.damaged-{int(time.time())}"))


def leads_out(path: Path, folder: Path) -> bool:
    """Whether what a name in a folder leads to lies elsewhere: not in the folder, and no download in the hub's cache.

    In that cache every file of a snapshot is a link to a blob beside it; the hub's library once put such links
    elsewhere, too.
    """
    real = Path(os.path.realpath(path))
    return not real.is_relative_to(os.path.realpath(folder)) and not _is_blob(real)


def unreadable(path: Path, why: str) -> StudioError:
    """Return the error of a file that cannot be read; `why` is the end of a sentence."""
    return StudioError(
        say("{name} cannot be read: {why}.", name=path.name, why=why),
        kind=FailureKind.NOT_READABLE,
        advice=say("Replace or remove the file, or take a copy that is whole."),
        detail=str(path),
    )


def _is_blob(real: Path) -> bool:
    """Whether it is a file of the hub's cache: of a repository, or of what its repositories share."""
    of_repository = real.parent.name == "blobs" and real.parent.parent.name.startswith(("models--", "datasets--"))
    return of_repository or (real.parent.parent.name == "blobs" and _SHARED.fullmatch(real.name) is not None)
