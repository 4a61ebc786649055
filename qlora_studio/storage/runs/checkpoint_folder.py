"""Durable checkpoints: a folder is there whole, with every byte on disk and every hash right, or it is not there.

Each is a staged folder (see `storage.durable`). Only folders whose manifest verifies are ever used, the newest first;
broken ones are set aside under a name that says so, and those of a later version left alone. Old ones go only after the
new one verifies. (The scheme is the one that survived all 43 kill points tried when it was chosen.)
"""

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, FiniteFloat

from qlora_studio.core.run.fingerprint import Fingerprint, Fingerprints
from qlora_studio.storage.durable import (
    DamagedManifest,
    Manifest,
    NewerManifest,
    disagreements,
    read_manifest,
    staged_folder,
)
from qlora_studio.storage.staging import remove_abandoned, restore_replaced

_NAME = re.compile(r"checkpoint-([0-9]{1,10})")
_NOTHING = Fingerprints()


class CheckpointManifest(Manifest):
    """The facts of a checkpoint: the held-out loss where it was measured at its step, and what the run is made from.

    A final adapter is one of step 0.
    """

    step: int = Field(ge=0)
    evaluation_loss: FiniteFloat | None = None
    base: Fingerprint = Fingerprint()
    data: Fingerprint = Fingerprint()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with its manifest."""

    path: Path
    manifest: CheckpointManifest

    @property
    def step(self) -> int:
        """The steps taken."""
        return self.manifest.step

    @property
    def evaluation_loss(self) -> float | None:
        """The held-out loss at its step, where it was measured."""
        return self.manifest.evaluation_loss

    @property
    def size_bytes(self) -> int:
        """What its files weigh together."""
        return self.manifest.size_bytes


class DamagedCheckpoint(Exception):
    """A checkpoint whose manifest is missing, broken, or does not agree with its files; says which file and how."""


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(
        self,
        step: int,
        write: Callable[[Path], None],
        made_from: Fingerprints = _NOTHING,
        evaluation_loss: float | None = None,
    ) -> Checkpoint:
        """Make a checkpoint of what `write(folder)` puts into a folder; return it verified. Raises OSError."""
        final = self.path / f"checkpoint-{step}"
        with staged_folder(final, replace=True) as staged:
            write(staged.path)
            staged.manifest = CheckpointManifest(
                step=step, evaluation_loss=evaluation_loss, base=made_from.base, data=made_from.data
            )
        return verify(final)

    def all(self) -> list[Path]:
        """Return the folders that bear a checkpoint's name, newest first; none is verified yet."""
        if not self.path.is_dir():
            return []
        named = [(int(match[1]), path) for path in self.path.iterdir() if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(named, reverse=True)]

    def safe(self) -> Iterator[Checkpoint]:
        """Yield the checkpoints that verify, newest first. Touches nothing."""
        for path in self.all():
            with suppress(DamagedCheckpoint, NewerManifest):
                yield verify(path)

    def newest_safe(self, set_aside: Callable[[Path, str], None]) -> Checkpoint | None:
        """Return the newest checkpoint that verifies. Broken ones on the way are renamed, and told to `set_aside`.

        Raises NewerManifest where a later version wrote the newest: to go on from an older one would replace it.
        """
        remove_abandoned(self.path)
        restore_replaced(self.path)
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
        for item in _by_loss(self._whole()):
            with suppress(DamagedCheckpoint):
                return verify(item.path)
        return None

    def rotate(self, keep: int) -> None:
        """Remove all but the newest `keep` and the best. Called only after the newest one was verified.

        One that is not whole any more, by its manifest and its files' sizes, does not count among those that are kept.
        """
        whole = list(self._whole())
        best = _by_loss(whole)[:1]
        for item in whole[max(2, keep) :]:
            if item not in best:
                shutil.rmtree(item.path, ignore_errors=True)

    def _whole(self) -> Iterator[Checkpoint]:
        """Yield the checkpoints whose manifest is right and whose files have their sizes, newest first."""
        for path in self.all():
            with suppress(DamagedCheckpoint, NewerManifest):
                yield _checked(path, hashed=False)


def verify(folder: Path) -> Checkpoint:
    """Return the checkpoint in `folder`, every file hashed and compared. Raises DamagedCheckpoint, NewerManifest."""
    return _checked(folder, hashed=True)


def _checked(folder: Path, *, hashed: bool) -> Checkpoint:
    try:
        manifest = read_manifest(folder, CheckpointManifest)
    except DamagedManifest as error:
        raise DamagedCheckpoint(str(error)) from error
    if (named := _NAME.fullmatch(folder.name)) and int(named[1]) != manifest.step:
        raise DamagedCheckpoint(f"{folder.name} says that it is of step {manifest.step}")
    if why := next(disagreements(folder, manifest, hashed=hashed), ""):
        raise DamagedCheckpoint(f"{folder.name}/{why}")
    return Checkpoint(folder, manifest)


def _by_loss(checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Return those whose loss was measured, the lowest first; of two alike the newest."""
    measured = [item for item in checkpoints if item.evaluation_loss is not None]
    return sorted(measured, key=lambda item: item.evaluation_loss or 0.0)
