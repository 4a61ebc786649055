"""What lies in the cache: rooms of things that can be made again, what they take, and their removal."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.runs.run_folder import run_folders
from qlora_studio.storage.settings import cache_path


@dataclass(frozen=True)
class Kept:
    """Something in the cache, by its name, with the bytes that it takes."""

    path: Path
    name: str
    size: int


@dataclass(frozen=True)
class CacheRoom:
    """One kind of things in the cache: its folder's name, and in words what they are and what removing them costs."""

    name: str
    title: str
    cost: str

    def kept(self, name_of: Callable[[Path], str] = lambda path: path.name) -> list[Kept]:
        """Return what lies there, the largest first."""
        found = [Kept(path, name_of(path), _bytes(path)) for path in self._paths()]
        return sorted(found, key=lambda item: -item.size)

    def remove(self) -> int:
        """Remove what lies there; return how many bytes that were. What cannot be removed stays."""
        before = sum(item.size for item in self.kept())
        for path in self._paths():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        return before - sum(item.size for item in self.kept())

    def _paths(self) -> list[Path]:
        with suppress(OSError):
            paths = (cache_path() / self.name).iterdir()
            return [path for path in paths if not path.name.startswith(".") and not path.is_symlink()]
        return []


ROOMS = (
    CacheRoom("bases", "Bases in 4 bits", "the next run quantizes its base again"),
    CacheRoom("models", "Converted models", "a GGUF file or a model in MXFP4 is converted again when it is used"),
    CacheRoom("datasets", "Prepared rows", "rows are read and tokenized again"),
    CacheRoom("reports", "Reports on datasets", "datasets are checked again"),
    CacheRoom("verification", "Verifications", "one that was interrupted begins anew"),
)


def require_nobody_at_work(runs: Path) -> None:
    """Raise StudioError while a run is at work: what it uses may be there."""
    for folder in run_folders(runs):
        if folder.is_busy():
            raise StudioError(
                say("Nothing was removed: {name} is at work, and may use what is there.", name=folder.path.name),
                kind=FailureKind.RUN_BUSY,
                advice=say("Wait for its end, or pause it."),
            )


def room_named(name: str) -> CacheRoom:
    """Return the room of a name. Raises KeyError."""
    return {room.name: room for room in ROOMS}[name]


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    with suppress(OSError):
        return sum(item.lstat().st_size for item in files if item.is_file() and not item.is_symlink())
    return 0
