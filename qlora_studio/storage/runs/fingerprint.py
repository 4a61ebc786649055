"""Fingerprints of files on disk: kept with a run, and compared before resume, merge and export.

A base of the same shape with other weights loads without a word and gives a ruined merge; this is what notices.
"""

import json
import re
from pathlib import Path

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.fingerprint import FileEntry, Fingerprint
from qlora_studio.storage.durable import sha256_of, write_atomically
from qlora_studio.storage.foreign import read_json, read_parsed
from qlora_studio.storage.settings import cache_path

_WEIGHTS = ("*.safetensors", "*.gguf")
_FILE_NAME = "base_fingerprint.json"
_SHA256 = re.compile("[0-9a-f]{64}")


def fingerprint_folder(folder: Path, *, anew: bool = False) -> Fingerprint:
    """Return the sha256 of the config and of each weights file of a model's folder.

    `anew` reads every byte again: a bit that flips on a disk changes neither size nor time.
    """
    files = [folder / "config.json", *(path for glob in _WEIGHTS for path in sorted(folder.glob(glob)))]
    return Fingerprint(files={path.name: fingerprint_file(path, anew=anew) for path in files if path.is_file()})


def fingerprint_file(path: Path, *, anew: bool = False) -> FileEntry:
    """Return size and sha256 of a file. A hash is taken again when size, time or place changed, and where `anew`."""
    stat = path.resolve().stat()
    key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
    store = cache_path() / "hashes.json"
    known = _read(store)
    if anew or key not in known:
        known[key] = sha256_of(path)
        write_atomically(store, json.dumps(known).encode())
    return FileEntry(size=stat.st_size, sha256=known[key])


def write_base_fingerprint(folder: Path, fingerprint: Fingerprint) -> None:
    """Put beside an adapter what its base was."""
    (folder / _FILE_NAME).write_text(fingerprint.model_dump_json(indent=1), encoding="utf-8")


def read_base_fingerprint(folder: Path) -> Fingerprint | None:
    """Return what lies beside an adapter of its base; None where nothing can be read there."""
    try:
        return read_parsed(folder / _FILE_NAME, Fingerprint.model_validate_json, inside=folder)
    except (OSError, StudioError):
        return None


def _read(path: Path) -> dict[str, str]:
    try:
        known = read_json(path)
    except (OSError, StudioError):
        return {}
    return {name: found for name, found in known.items() if isinstance(found, str) and _SHA256.fullmatch(found)}
