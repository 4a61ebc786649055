"""`queue`: runs wait in order, are taken out, and are worked off, each by a worker of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder


def _queue(*words: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "qlora_studio", "queue", "--json", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, json.loads(ended.stdout)


def test_runs_wait_are_taken_out_and_worked_off(tmp_path: Path) -> None:
    first, second, third = (create_run_folder(tmp_path, RunConfig(name=name)).path for name in ("a", "b", "c"))
    where = ("--runs", str(tmp_path))
    assert _queue(*where, str(first), str(second), str(third)) == (
        0,
        {"waiting": [str(first), str(second), str(third)], "ended": [], "created": []},
    )
    assert _queue(*where, "--remove", str(second))[1]["waiting"] == [str(first), str(third)]
    code, told = _queue(*where, "--work")
    assert told["waiting"] == []
    # Runs without a model: real workers start, say what is missing, and end.
    assert told["ended"] == [{"run_dir": str(path), "status": "failed"} for path in (first, third)]
    assert code == 1


def test_a_run_is_queued_again_over_a_few_values(tmp_path: Path, starter_gguf: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    config = RunConfig(name="mine").with_value("model.source", str(starter_gguf)).with_value("data.path", str(data))
    run = create_run_folder(tmp_path / "runs", config)
    where = ("--runs", str(tmp_path / "runs"))

    code, told = _queue(*where, str(run.path), "--over", "lora.rank=8,32", "--over", "training.learning_rate=1e-4,3e-4")

    assert code == 0
    assert told["waiting"] == told["created"]
    made = [RunFolder(path).config() for path in told["created"]]
    assert [(item.lora.rank, item.training.learning_rate) for item in made] == [
        (8, 1e-4),
        (8, 3e-4),
        (32, 1e-4),
        (32, 3e-4),
    ]
    assert all(item.data == config.data and item.model == config.model for item in made)
    assert _queue(*where, str(run.path), "--over", "lora.rank=8,none")[0] == 20  # and nothing was made of the 8
    (run.path / "run.toml").write_text(run.config_path.read_text() + "\n# changed\n")
    assert _queue(*where, str(run.path), "--over", "lora.rank=8")[0] == 39  # somebody else's settings
    assert len(list((tmp_path / "runs").glob("*/run.toml"))) == 5
