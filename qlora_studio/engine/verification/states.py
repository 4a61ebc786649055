"""What models made of the rows, on the disk: a verification that was interrupted goes on from there.

The folder's name stands for all that decides the states, so another adapter, export or row never finds them. What was
kept is whole and as it was written, or is not taken.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from qlora_studio.engine.verification.lane import Lane
from qlora_studio.storage.durable import (
    DamagedManifest,
    Manifest,
    NewerManifest,
    disagreements,
    read_manifest,
    staged_folder,
)
from qlora_studio.storage.settings import cache_path

_FILE = "states.safetensors"
_KEPT_DAYS = 7.0
_KEEP_SECONDS = 60.0  # of work that an interruption may cost


class StatesManifest(Manifest):
    """How many layers the states have passed; 0 where they have passed all."""

    passed: int = 0


class StatesStore:
    """The states of one verification's models."""

    def __init__(self, what: dict[str, Any], *, every: float = _KEEP_SECONDS) -> None:
        """`what`: all that decides the states, as JSON has it."""
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]
        self._folder = cache_path() / "verification" / key
        self._every = every
        self._last = time.monotonic()
        _remove_old(self._folder.parent)

    def finished(self, name: str) -> list[torch.Tensor] | None:
        """Return a model's last states, mapped from the disk, where it is through."""
        return self._read(self._folder / name, passed=False)[1]

    def finish(self, name: str, states: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Keep a model's last states, and return them as they are found there."""
        self._write(self._folder / name, states, 0)
        shutil.rmtree(self._part(name), ignore_errors=True)
        found = self.finished(name)
        return found if found is not None else list(states)

    def go_on(self, name: str, lanes: Sequence[Lane]) -> None:
        """Let lanes begin where an earlier process left them."""
        passed, states = self._read(self._part(name), passed=True)
        self._last = time.monotonic()
        if states is not None and len(states) == len(lanes):
            for lane, given in zip(lanes, states, strict=True):
                lane.passed, lane.given = passed, given

    def keeper(self, name: str) -> Callable[[int, list[torch.Tensor]], None]:
        """Return what keeps the states between two layers, now and then."""

        def keep(passed: int, states: list[torch.Tensor]) -> None:
            if time.monotonic() - self._last >= self._every:
                self._write(self._part(name), states, passed)
                self._last = time.monotonic()

        return keep

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _part(self, name: str) -> Path:
        return self._folder / f"{name}-part"

    def _write(self, folder: Path, states: Sequence[torch.Tensor], passed: int) -> None:
        with staged_folder(folder, replace=True) as staged:
            save_file({str(number): item.contiguous().cpu() for number, item in enumerate(states)}, staged.path / _FILE)
            staged.manifest = StatesManifest(passed=passed)

    def _read(self, folder: Path, *, passed: bool) -> tuple[int, list[torch.Tensor] | None]:
        try:
            manifest = read_manifest(folder, StatesManifest)
        except (DamagedManifest, NewerManifest):
            return 0, None
        if any(disagreements(folder, manifest)) or bool(manifest.passed) != passed:
            return 0, None
        with safe_open(folder / _FILE, framework="pt", device="cpu") as file:
            return manifest.passed, [file.get_tensor(str(number)) for number in range(len(list(file.keys())))]


def _remove_old(folder: Path) -> None:
    """Remove what interrupted verifications left that nobody took up again."""
    for path in folder.glob("*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > _KEPT_DAYS * 86_400:
            shutil.rmtree(path, ignore_errors=True)
