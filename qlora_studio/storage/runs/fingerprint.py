"""What a base model or a dataset is, by content: kept with a run and compared before resume, merge and export.

A base of the same shape with other weights loads without a word and gives a ruined merge; this is what notices.
"""

import json
from pathlib import Path
from typing import Any

from qlora_studio.storage.durable import sha256_of, write_atomically
from qlora_studio.storage.settings import cache_path

_WEIGHTS = ("*.safetensors", "*.gguf")
FILE_NAME = "base_fingerprint.json"


def fingerprint_folder(folder: Path, *, anew: bool = False) -> dict[str, Any]:
    """Return the sha256 of the config and of each weights file of a model's folder.

    `anew` reads every byte again: a bit that flips on a disk changes neither size nor time.
    """
    files = [folder / "config.json", *(path for glob in _WEIGHTS for path in sorted(folder.glob(glob)))]
    return {"files": {path.name: fingerprint_file(path, anew=anew) for path in files if path.is_file()}}


def fingerprint_file(path: Path, *, anew: bool = False) -> dict[str, Any]:
    """Return size and sha256 of a file. A hash is taken again when size, time or place changed, and where `anew`."""
    stat = path.resolve().stat()
    key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"
    store = cache_path() / "hashes.json"
    known = _read(store)
    if anew or key not in known:
        known[key] = sha256_of(path)
        write_atomically(store, json.dumps(known).encode())
    return {"size": stat.st_size, "sha256": known[key]}


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return what differs between two fingerprints, in words; empty where they agree."""
    old, new = expected.get("files", {}), found.get("files", {})
    missing = [f"{name} is missing" for name in old if name not in new]
    added = [f"{name} is new" for name in new if name not in old]
    changed = [f"{name} has other content" for name in old if name in new and old[name] != new[name]]
    return missing + added + changed


def _read(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return {}
