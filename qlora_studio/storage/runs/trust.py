"""Which run folders may give orders: those whose run.toml this user's data folder has a record of, as it is now.

What a run.toml says is read, fetched and written in this user's name, so one that came from elsewhere is only looked
at. A record is a file named by the HMAC of a run's name and run.toml, under a key that lies beside it; what it holds is
for words alone. Nothing of this lies in a run's own folder: what came with a folder does not vouch for it. A folder
that its user moved or copied gives the same orders as before, so its record holds. No run has a job.json.
"""

import hmac
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.foreign_text import LARGEST_TOML
from qlora_studio.core.words import say
from qlora_studio.storage.durable import not_writable, write_atomically
from qlora_studio.storage.foreign import read_bytes
from qlora_studio.storage.permissions import private_folder
from qlora_studio.storage.settings import data_path

_KEY, _LOCK, _TAKEN_OVER = "key", "key.lock", "taken-over"
_RECORD = ".json"
_KEY_BYTES = 32
_KEPT_SECONDS = 365 * 24 * 3600  # of a record whose run is gone: its drive may only be away


class NotTrusted(StudioError):
    """A run's folder that may give no orders, and why."""

    def __init__(self, folder: Path, why: str, advice: str = "") -> None:
        ask = f'See what it would do, and trust it: "Trust this run …" in the window, or qlora-studio trust "{folder}"'
        super().__init__(why, kind=FailureKind.NOT_TRUSTED, advice=advice or ask)


def record(folder: Path, text: bytes) -> None:
    """Put on record that this user gives the orders of a run.toml, before or after it is written to its folder.

    So is what else this user said of a run, by a text that no run.toml can be: it begins with a NUL. Raises StudioError
    where that cannot be.
    """
    _write_record(folder, text)
    _remove_old_records()


def is_recorded(folder: Path, text: bytes) -> bool:
    """Whether this user put a text on record for a folder of that name."""
    return is_recorded_as(_own_name(folder), text)


def is_recorded_as(name: str, text: bytes) -> bool:
    """Whether this user put a text on record for a folder that was called so then."""
    return (key := _key()) is not None and (_records() / _name(name, text, key)).is_file()


def trusted_text(folder: Path) -> bytes | None:
    """Return the run.toml of a folder that may give orders as a run; None where there is none. Raises StudioError."""
    text = shown_text(folder)
    if text is not None and not is_recorded(folder, text):
        raise NotTrusted(folder, _why_not(folder.resolve(), text, _key() or b""))
    return text


def shown_text(folder: Path) -> bytes | None:
    """Return the run.toml of a folder that could be trusted; None where there is none. Raises StudioError."""
    try:
        text = _run_text(folder)
    except FileNotFoundError:
        return None
    if os.path.lexists(folder / "job.json"):
        raise NotTrusted(
            folder,
            say("{folder} holds a job.json, as no run does: somebody else put an order there.", folder=folder),
            advice=say("Nothing here obeys it. Remove it to go on."),
        )
    return text


def objection(folder: Path) -> StudioError | None:
    """Return why a folder may give no orders as a run; None where it may, and where there is no run.toml."""
    try:
        trusted_text(folder)
    except StudioError as error:
        return error
    return None


def trust_stamp(folder: Path) -> tuple[int, ...]:
    """Return what changes when `objection` may say something else; for lists that are looked at again and again.

    So does `records_stamp`, which is of all runs.
    """
    return (*_times(folder / "run.toml"), *_times(folder / "job.json"))


def records_stamp() -> tuple[int, ...]:
    """Return what changes when there are other records."""
    return _times(_records())


def take_over_once(runs: Path) -> None:
    """At the first start of a version that keeps records, record the runs of the user's own folder; never again.

    Where nothing can be written nothing is trusted, and each refusal says so.
    """
    with suppress(StudioError, OSError):
        if (_records() / _TAKEN_OVER).exists():
            return
        _made_key()
        for place in runs.iterdir() if runs.is_dir() else ():
            with suppress(FileNotFoundError, StudioError):
                _write_record(place, _run_text(place))
        write_atomically(_records() / _TAKEN_OVER, b"")


def _times(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_ctime_ns, found.st_size


def _own_name(folder: Path) -> str:
    """Return the name of the folder that a path leads to."""
    is_itself = folder.name not in ("", "..") and not folder.is_symlink()
    return folder.name if is_itself else folder.resolve().name


def _run_text(folder: Path) -> bytes:
    return read_bytes(folder / "run.toml", limit=LARGEST_TOML, inside=folder)


def _write_record(folder: Path, text: bytes) -> None:
    place = folder.resolve()
    facts = {"run": place.name, "path": str(place)}
    write_atomically(_records() / _name(place.name, text, _made_key()), json.dumps(facts).encode())


def _why_not(place: Path, text: bytes, key: bytes) -> str:
    for name, run in _recorded(_records(), _times(_records())):
        if name == _name(run, text, key):
            return f"{place.name} was recorded on this computer as {run}: its folder was renamed since."
        if place.name == run:
            return f"The run.toml of {place.name} has changed since it was recorded on this computer."
    return f"Nothing on this computer says that {place.name} is a run of yours."


@lru_cache(maxsize=1)  # a list of runs from elsewhere asks for each of them
def _recorded(records: Path, _as_of: tuple[int, int]) -> tuple[tuple[str, str], ...]:
    """Return the names of the records, each with that of its run, as they are when the folder has those times."""
    return tuple((path.name, facts["run"]) for path, facts in _facts(records.glob(f"*{_RECORD}")))


def _name(run: str, text: bytes, key: bytes) -> str:
    return hmac.digest(key, os.fsencode(run) + b"\0" + text, "sha256").hex() + _RECORD


def _made_key() -> bytes:
    """Return the key, made where there is none that can be used: what was recorded by another is not trusted then."""
    if (key := _key()) is not None:
        return key
    try:
        with FileLock(private_folder(_records()) / _LOCK, mode=0o600):
            return _key() or _new_key()
    except OSError as error:
        raise not_writable(_records(), error) from error


def _new_key() -> bytes:
    """Write a key; in a folder that is this user's alone, so is it."""
    key = os.urandom(_KEY_BYTES)
    write_atomically(_records() / _KEY, key)
    return key


def _key() -> bytes | None:
    try:
        key = (_records() / _KEY).read_bytes()
    except OSError:
        return None
    return key if len(key) == _KEY_BYTES else None


def _facts(paths: Iterable[Path]) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield records with what they say; broken ones are passed over."""
    for path in paths:
        with suppress(OSError, ValueError, TypeError, KeyError):
            facts = json.loads(path.read_bytes())
            yield path, {"run": str(facts["run"]), "path": str(facts["path"])}


def _remove_old_records() -> None:
    """Remove records of runs that have been gone for long."""
    with suppress(OSError):
        before = time.time() - _KEPT_SECONDS
        with os.scandir(_records()) as found:
            old = [Path(item) for item in found if item.name.endswith(_RECORD) and item.stat().st_mtime < before]
        for path, facts in _facts(old):
            if not Path(facts["path"]).exists():
                path.unlink(missing_ok=True)


def _records() -> Path:
    return data_path() / "trust"
