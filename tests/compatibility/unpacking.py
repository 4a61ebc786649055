"""Run folders as an older version left them, unpacked to be worked with: copied, and at home where they lie now.

They were made at `MADE_AT`, and hold that path as a run holds the paths of its model and its data. What a manifest has
hashed stays byte for byte as it was written; there the path is only the name of a base that lies elsewhere now.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qlora_studio.storage.runs.run_folder import RunFolder

MADE_AT = Path("/dev/shm/@FIXTURE@")  # every Linux has it, and its name tells nothing of a computer
FIGURES = "figures.json"
_MANIFEST = "manifest.json"  # named here again: the old files' layout does not change with the program


@dataclass(frozen=True)
class OldRuns:
    """What a version left: `figures` is what its own `watch` and `runs` said of the runs."""

    path: Path
    finished: RunFolder
    paused: RunFolder
    figures: dict[str, Any]


def versions() -> list[Path]:
    """Return the folder of every version that left something."""
    return sorted(path for path in Path(__file__).parent.glob("v*") if path.is_dir())


def unpack(version: Path, place: Path) -> OldRuns:
    """Copy what a version left to `place`, which must not exist, with the paths that hold there."""
    shutil.copytree(version, place)
    place = place.resolve()
    sealed = _sealed(place)
    for path in place.rglob("*"):
        if path.is_file() and path not in sealed:
            _move_home(path, place)
    figures = json.loads((place / FIGURES).read_text("utf-8"))
    return OldRuns(place, RunFolder(place / "finished"), RunFolder(place / "paused"), figures)


def _sealed(place: Path) -> set[Path]:
    """Return the files that a manifest has hashed."""
    manifests = [(path, json.loads(path.read_text("utf-8"))) for path in place.rglob(_MANIFEST)]
    return {path.parent / name for path, manifest in manifests for name in manifest["files"]}


def _move_home(path: Path, place: Path) -> None:
    old, new = str(MADE_AT).encode(), place.as_posix().encode()
    content = path.read_bytes()
    if old in content:
        path.write_bytes(content.replace(old, new))
