"""`queue`: runs wait in order, are taken out, and are worked off, each by a worker of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.storage.runs.run_folder import create_run_folder


def _queue(*words: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "qlora_studio", "queue", "--json", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, json.loads(ended.stdout)


def test_runs_wait_are_taken_out_and_worked_off(tmp_path: Path) -> None:
    first, second, third = (create_run_folder(tmp_path, RunConfig(name=name)).path for name in ("a", "b", "c"))
    where = ("--runs", str(tmp_path))
    assert _queue(*where, str(first), str(second), str(third)) == (
        0,
        {"waiting": [str(first), str(second), str(third)], "ended": []},
    )
    assert _queue(*where, "--remove", str(second))[1]["waiting"] == [str(first), str(third)]
    code, told = _queue(*where, "--work")
    assert told["waiting"] == []
    # Runs without a model: real workers start, say what is missing, and end.
    assert told["ended"] == [{"run_dir": str(path), "status": "failed"} for path in (first, third)]
    assert code == 1
