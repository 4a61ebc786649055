"""What tests of runs elsewhere share: a place that needs no ssh, with a stand-in for SLURM's programs."""

import os
import shlex
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.elsewhere.place import Place
from qlora_studio.jobs.elsewhere.mirror import mirror
from qlora_studio.storage.places import save_place
from qlora_studio.storage.runs.run_folder import RunFolder

_TOOLS = Path(__file__).parent


def put_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have SLURM's programs found, and return their folder: what tests put there decides what they answer."""
    folder, programs = tmp_path / "scheduler", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        (programs / name).write_bytes((_TOOLS / "slurm_stand_in.sh").read_bytes())
        (programs / name).chmod(0o755)
    monkeypatch.setenv("SLURM_STAND_IN", str(folder))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return folder


def put_program(tmp_path: Path, name: str, lines: str) -> None:
    """Have a program of that name found first, where `put_scheduler` did so with SLURM's."""
    path = tmp_path / "programs" / name
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)


def place_for(script: str, tmp_path: Path) -> Place:
    """Return the place `cluster`, written down, with a program that plays a script."""
    place = Place(name="cluster", folder=str(tmp_path / "there"), program=program_for(script), cards="0", time="30")
    save_place(place)
    return place


def program_for(script: str) -> str:
    """Return what starts a program at a place that plays a script."""
    return shlex.join([sys.executable, "-P", str(_TOOLS / "scripted_program.py"), script])


def there(run: RunFolder, tmp_path: Path) -> RunFolder:
    """Return a run's folder at the place."""
    return RunFolder(tmp_path / "there" / run.path.name)


def followed(run: RunFolder) -> threading.Thread:
    """Return the mirror of a run, at work in a thread."""
    thread = threading.Thread(target=mirror, args=(str(run.path),), daemon=True)
    thread.start()
    return thread


def until(is_so: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)
