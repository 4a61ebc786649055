"""Durable checkpoints: a folder is there whole, with every byte on disk and every hash right, or it is not there.

A checkpoint is written into a staging folder on the same filesystem, each file is synced, a manifest with sizes and
sha256 is written last and synced, the folder is renamed and its parent synced. Only folders whose manifest verifies are
ever used, the newest first; broken ones are set aside under a name that says so. Old ones go only after the new one
verifies. (The scheme is the one that survived all 43 kill points tried when it was chosen.)
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qlora_studio.storage.durable import MANIFEST, sha256_of, sync_folder, write_manifest

_REPLACED = ".replaced-"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with its manifest's facts."""

    path: Path
    step: int
    facts: dict[str, Any]

    @property
    def evaluation_loss(self) -> float | None:
        """The held-out loss at its step, where it was measured."""
        value = self.facts.get("evaluation_loss")
        return float(value) if value is not None else None

    @property
    def size_bytes(self) -> int:
        """What its files weigh together."""
        return sum(int(entry["size"]) for entry in self.facts["files"].values())


class DamagedCheckpoint(Exception):
    """A checkpoint whose manifest is missing or does not agree with its files; says which file and how."""


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, step: int, write: Callable[[Path], None], facts: dict[str, Any]) -> Checkpoint:
        """Make a checkpoint of what `write(folder)` puts into a folder; return it verified. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True)
        staging = self.path / f".staging-{step}-{os.getpid()}"
        final = self.path / f"checkpoint-{step}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            write(staging)
            write_manifest(staging, {"step": step, **facts})
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self._put_in_place(staging, final)
        return verify(final)

    def _put_in_place(self, staging: Path, final: Path) -> None:
        """Rename, durably. A checkpoint of the same step stays until the new one has its name: see `_tidy`."""
        replaced = final.with_name(f"{_REPLACED}{final.name}")
        if final.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            final.rename(replaced)
        staging.rename(final)
        sync_folder(self.path)
        shutil.rmtree(replaced, ignore_errors=True)

    def all(self) -> list[Path]:
        """Return the folders that bear a checkpoint's name, newest first; none is verified yet."""
        if not self.path.is_dir():
            return []
        named = [(int(match[1]), path) for path in self.path.iterdir() if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(named, reverse=True)]

    def safe(self) -> Iterator[Checkpoint]:
        """Yield the checkpoints that verify, newest first. Touches nothing."""
        for path in self.all():
            try:
                yield verify(path)
            except DamagedCheckpoint:
                continue

    def newest_safe(self, set_aside: Callable[[Path, str], None]) -> Checkpoint | None:
        """Return the newest checkpoint that verifies. Broken ones on the way are renamed, and told to `set_aside`."""
        self._tidy()
        for path in self.all():
            try:
                return verify(path)
            except DamagedCheckpoint as error:
                damaged = path.with_name(f"{path.name}.damaged-{int(time.time())}")
                path.rename(damaged)
                set_aside(damaged, str(error))
        return None

    def best(self) -> Checkpoint | None:
        """Return the safe checkpoint with the lowest held-out loss."""
        measured = [item for item in self.safe() if item.evaluation_loss is not None]
        return min(measured, key=lambda item: item.evaluation_loss or 0.0, default=None)

    def rotate(self, keep: int) -> None:
        """Remove all but the newest `keep` and the best. Called only after the newest one was verified.

        One that is not whole any more, by its manifest and its files' sizes, does not count among those that are kept.
        """
        whole = [path for path in self.all() if _is_whole(path)]
        losses = {path: loss for path in whole if (loss := _loss_in_manifest(path)) is not None}
        best = min(losses, key=losses.__getitem__, default=None)
        for path in whole[max(2, keep) :]:
            if path != best:
                shutil.rmtree(path, ignore_errors=True)

    def _tidy(self) -> None:
        """Take away what a killed save left; give a checkpoint that was being replaced its name back."""
        if not self.path.is_dir():
            return
        for path in self.path.glob(".staging-*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.path.glob(f"{_REPLACED}*"):
            final = path.with_name(path.name.removeprefix(_REPLACED))
            if final.exists():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.rename(final)


def verify(folder: Path) -> Checkpoint:
    """Return the checkpoint in `folder`, every file hashed and compared. Raises DamagedCheckpoint."""
    try:
        facts = json.loads((folder / MANIFEST).read_text("utf-8"))
        files = facts["files"].items()
        step = int(facts["step"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"{folder.name} has no readable manifest") from error
    for name, entry in files:
        _verify_file(folder, name, entry)
    return Checkpoint(path=folder, step=step, facts=facts)


def _is_whole(folder: Path) -> bool:
    try:
        files = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
        return all((folder / name).stat().st_size == entry["size"] for name, entry in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _verify_file(folder: Path, name: str, entry: dict[str, Any]) -> None:
    path = folder / name
    try:
        size = path.stat().st_size
        if size != entry["size"]:
            raise DamagedCheckpoint(f"{folder.name}/{name} is {size} bytes, not {entry['size']}")
        if sha256_of(path) != entry["sha256"]:
            raise DamagedCheckpoint(f"{folder.name}/{name} has changed on disk")
    except OSError as error:
        raise DamagedCheckpoint(f"{folder.name}/{name} cannot be read: {error.strerror}") from error


def _loss_in_manifest(folder: Path) -> float | None:
    try:
        value = json.loads((folder / MANIFEST).read_text("utf-8")).get("evaluation_loss")
    except (OSError, ValueError):
        return None
    return float(value) if value is not None else None
