"""A place that needs no ssh: this computer hands out jobs itself, by a stand-in for SLURM's programs."""

import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.jobs.elsewhere.mirror import mirror
from qlora_studio.jobs.elsewhere.sending import plan_sending
from qlora_studio.jobs.elsewhere.submission import submit
from qlora_studio.storage.places import save_place
from qlora_studio.storage.runs.run_folder import RunFolder

_TOOLS = Path(__file__).parents[2] / "elsewhere"
Submit = Callable[[str], RunFolder]


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the scheduler's stand-in: what tests put there decides what it answers."""
    folder, programs = tmp_path / "scheduler", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        (programs / name).write_bytes((_TOOLS / "slurm_stand_in.sh").read_bytes())
        (programs / name).chmod(0o755)
    monkeypatch.setenv("SLURM_STAND_IN", str(folder))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    yield folder
    (folder / "hold").unlink(missing_ok=True)


@pytest.fixture
def send(scheduler: Path, studio_home: Path, tmp_path: Path) -> Submit:
    """Sends a run to the place `cluster`, whose program plays a script."""
    data = tmp_path / "it's data.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n')
    config = RunConfig.model_validate({"model": {"source": "owner/model"}, "data": {"path": str(data)}})

    def submitted(script: str) -> RunFolder:
        return submit(plan_sending(config, place_for(script, tmp_path)), studio_home / "runs")

    return submitted


def place_for(script: str, tmp_path: Path) -> Place:
    """Return the place `cluster`, written down, with a program that plays a script."""
    program = shlex.join([sys.executable, "-P", str(_TOOLS / "scripted_program.py"), script])
    there = tmp_path / "there"
    place = Place(name="cluster", folder=str(there), program=program, cards="0", time="30")
    save_place(place)
    return place


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
