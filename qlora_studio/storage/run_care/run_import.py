"""A run from elsewhere taken in among the user's: copied from a folder or a zip that somebody else may have made.

What is taken is listed; no lock, no job, no command comes along. A run that is taken in gives no orders until it is
trusted. What a name, a link or a size could do is refused before the first byte is written.
"""

import errno
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say
from qlora_studio.storage.durable import not_writable
from qlora_studio.storage.foreign import open_regular, unreadable
from qlora_studio.storage.permissions import private_folder
from qlora_studio.storage.run_care import run_label
from qlora_studio.storage.runs.run_folder import RunFolder, folder_name
from qlora_studio.storage.staging import staging_path
from qlora_studio.storage.syncing import sync_folder

_TAKEN = {"run.toml", "events.jsonl", "worker.log", run_label.FILE, "checkpoints", "adapter", "exports"}
_MOST_FILES = 20_000
_DEEPEST = 12
_SMALL, _MOST_TIMES = 64 << 20, 200  # bytes that any zip may hold, and how many times its own size a larger one
_LEFT_FREE = 1 << 30  # bytes
_PIECE = 1 << 20
_MOST_OF_A_NAME = 10_000
_REFUSED = re.compile(r'[\x00-\x1f<>:"|?*\\]|^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$|[. ]$', re.IGNORECASE)
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


@dataclass(frozen=True)
class _File:
    """A file of a run: its name from the run's folder on, its size in bytes, and how it is opened."""

    parts: tuple[str, ...]
    size: int
    open: Callable[[], IO[bytes]]


@dataclass
class Copying:
    """How far a copy is, in bytes, and whether it is to stop. Who copies counts here; others look, and may say so."""

    done: int = 0
    total: int = 0
    stopped: bool = False

    def add(self, size: int) -> None:
        """Count what was copied. Raises StudioError where it is to stop."""
        if self.stopped:
            raise StudioError(say("Nothing was taken in: it was stopped."), kind=FailureKind.INTERRUPTED)
        self.done += size


def import_run(source: Path, runs: Path, copying: Copying | None = None) -> RunFolder:
    """Copy a run from a folder or a zip into the folder of runs, whole or not at all; return it. Raises StudioError."""
    copying = copying or Copying()
    with _files_of(source) as found:
        name, files = _run_in(source, found)
        _check(source, files, runs)
        copying.total = sum(file.size for file in files)
        return _copied(source, files, runs, folder_name(name), copying)


@contextmanager
def _files_of(source: Path) -> Iterator[list[_File]]:
    if source.is_dir():
        yield list(_in_folder(source))
        return
    try:
        with os.fdopen(open_regular(source), "rb") as file, zipfile.ZipFile(file) as pack:
            yield _in_zip(source, pack)
    except FileNotFoundError as error:
        raise StudioError(say("{source} is not there.", source=source), kind=FailureKind.RUN_NOT_FOUND) from error
    except _BROKEN as error:
        raise unreadable(source, say("it is no zip, or a damaged one")) from error


def _in_folder(source: Path) -> Iterator[_File]:
    for place, folders, names in os.walk(source):
        parts = Path(place).relative_to(source).parts
        folders[:] = [name for name in folders if parts or name in _TAKEN]
        for name in (*names, *folders):
            path = Path(place) / name
            if not parts and name not in _TAKEN:
                continue
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise _refused(source, say("{name} is a link, or no regular file", name=name))
            if stat.S_ISREG(mode):
                yield _File((*parts, name), path.lstat().st_size, _opener(path, source))


def _opener(path: Path, source: Path) -> Callable[[], IO[bytes]]:
    return lambda: os.fdopen(open_regular(path, inside=source), "rb")


def _in_zip(source: Path, pack: zipfile.ZipFile) -> list[_File]:
    files, whole = [], source.stat().st_size
    infos = [info for info in pack.infolist() if not info.filename.endswith("/")]
    if sum(info.compress_size for info in infos) > whole or sum(info.file_size for info in infos) > max(
        _SMALL, _MOST_TIMES * whole
    ):
        raise _refused(source, say("it holds far more than its size can honestly hold"))
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise _refused(source, say("{filename} is a link, or no regular file", filename=info.filename[:80]))
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refused(
                source, say("{filename} is locked, or packed in another way than usual", filename=info.filename[:80])
            )
        files.append(_File(tuple(info.orig_filename.split("/")), info.file_size, lambda info=info: pack.open(info)))  # type: ignore[misc]
    return files


def _run_in(source: Path, files: list[_File]) -> tuple[str, list[_File]]:
    """Return the name of the one run in there and its files, named from its own folder on."""
    roots = {file.parts[:-1] for file in files if file.parts[-1] == "run.toml" and len(file.parts) <= 2}
    root = () if () in roots else next(iter(roots), None)
    if root is None or (root and len(roots) > 1):
        why = "it has no run.toml" if root is None else "it holds several"
        raise StudioError(
            say("{source} is not a run: {why}.", source=source, why=why),
            kind=FailureKind.RUN_NOT_FOUND,
            advice=say("Choose a run's own folder or zip."),
        )
    of_run = [file for file in files if file.parts[: len(root)] == root]
    inner = [_File(file.parts[len(root) :], file.size, file.open) for file in of_run]
    return (root[0] if root else source.name if source.is_dir() else source.stem), [
        file for file in inner if file.parts[0] in _TAKEN
    ]


def _check(source: Path, files: list[_File], runs: Path) -> None:
    if source.is_dir() and source.resolve().parent == runs.resolve():
        raise StudioError(say("{name} is among the runs already.", name=source.name), kind=FailureKind.USAGE)
    names = {"/".join(file.parts).casefold() for file in files}
    bad = next((file for file in files if any(not part or _REFUSED.search(part) for part in file.parts)), None)
    if bad is not None:
        raise _refused(source, say("no file may be called {parts}", parts=repr("/".join(bad.parts)[:80])))
    if len(names) < len(files) or len(files) > _MOST_FILES or any(len(file.parts) > _DEEPEST for file in files):
        raise _refused(source, say("it holds a name twice, too many files, or folders too deep in each other"))
    total, place = sum(file.size for file in files), private_folder(runs)
    if (free := shutil.disk_usage(place).free) < total + _LEFT_FREE:
        raise StudioError(
            say(
                "{name} takes {total}, and {free} are free in {runs}.",
                name=source.name,
                total=bytes_text(total),
                free=bytes_text(free),
                runs=runs,
            ),
            kind=FailureKind.DISK_FULL,
            advice=say("Free some space first."),
        )


def _copied(source: Path, files: list[_File], runs: Path, name: str, copying: Copying) -> RunFolder:
    staging = staging_path(runs / name)
    try:
        staging.mkdir(mode=0o700)
        for file in files:
            _copy(source, file, staging.joinpath(*file.parts), copying)
        RunFolder(staging).config()
        final = _named(staging, runs, name)
        sync_folder(runs)
    except OSError as error:
        raise not_writable(runs, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return RunFolder(final)


def _copy(source: Path, file: _File, place: Path, copying: Copying) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    left = file.size
    with file.open() as reading, place.open("xb") as writing:
        while piece := reading.read(_PIECE):
            left -= len(piece)
            if left < 0:
                raise _refused(source, say("{name} is larger than it says", name=place.name))
            copying.add(len(piece))
            writing.write(piece)


def _named(staging: Path, runs: Path, name: str) -> Path:
    """Give a whole copy the first name that is free, though another window takes one in at this moment; return it."""
    for number in range(1, _MOST_OF_A_NAME):
        final = runs / (name if number == 1 else f"{name}-{number}")
        try:
            if not final.exists():
                staging.rename(final)
                return final
        except OSError:
            if not final.exists():  # else somebody was quicker
                raise
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(runs / name))


def _refused(source: Path, why: str) -> StudioError:
    return StudioError(
        say("{name} is not taken in: {why}.", name=source.name, why=why),
        kind=FailureKind.NOT_READABLE,
        advice=say("Nothing was written."),
    )
