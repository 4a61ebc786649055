"""What work that was killed left half made, wherever this user's work is done: removed at the next start.

Exports may go anywhere, so their places are kept in the cache; a place is forgotten when it is gone.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from pydantic import TypeAdapter

from qlora_studio.core.errors import StudioError
from qlora_studio.core.quantity import bytes_text
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.runs.run_folder import RunFolder, run_folders
from qlora_studio.storage.settings import cache_path, data_path, settings_path
from qlora_studio.storage.staging import REPLACED, named, remove_abandoned, restore_replaced

_PLACES = TypeAdapter(tuple[str, ...])
_MOST = 50


def remove_leftovers(runs: Path) -> int:
    """Remove what killed work left, and put back what it was about to replace; return how many bytes were removed."""
    folders: list[RunFolder] = []
    with suppress(OSError):
        folders = run_folders(runs)
    for folder in folders:
        with suppress(OSError):
            if named(folder.path, REPLACED) and not folder.path.is_symlink() and not folder.is_busy():
                restore_replaced(folder.path)
    places = chain(_own_places(runs), map(Path, _export_places()), *map(_places_of, folders))
    return sum(remove_abandoned(place) for place in dict.fromkeys(places))


def removed_text(size: int) -> str:
    """Return in words how much was removed."""
    return f"{bytes_text(size)} that interrupted work had left half made were removed."


def remember_export_place(folder: Path) -> None:
    """Keep in mind that exports are written to a folder. What cannot be kept is not missed much."""
    place, known = str(folder.absolute()), _export_places()
    if place not in known:
        kept = [path for path in known if Path(path).is_dir()]
        try:
            write_atomically(_store(), _PLACES.dump_json((*kept, place)[-_MOST:], indent=1))
        except StudioError:
            return


def _own_places(runs: Path) -> Iterator[Path]:
    yield from (settings_path().parent, data_path(), runs, cache_path())
    for room in ("models", "bases", "datasets", "verification"):
        yield cache_path() / room
        yield from _folders(cache_path() / room)


def _places_of(folder: RunFolder) -> Iterator[Path]:
    if not folder.path.is_symlink():
        yield folder.path
        yield from _folders(folder.path)


def _folders(parent: Path) -> Iterator[Path]:
    """Yield the folders in a folder; never one elsewhere that a link leads to."""
    with suppress(OSError), os.scandir(parent) as entries:
        yield from [parent / entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _export_places() -> tuple[str, ...]:
    try:
        return _PLACES.validate_json(_store().read_bytes())
    except (OSError, ValueError):
        return ()


def _store() -> Path:
    return cache_path() / "export_places.json"
