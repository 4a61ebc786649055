"""A run folder that a newer version wrote: each command says so, and leaves it as it is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.message import PROTOCOL_VERSION
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from tests.cli.conftest import Outcome

Studio = Callable[..., Outcome]


@pytest.fixture
def newer(tmp_path: Path) -> RunFolder:
    folder = create_run_folder(tmp_path / "runs", RunConfig(name="tomorrow"))
    started = f'{{"version": {PROTOCOL_VERSION + 1}, "time": 1.0, "type": "worker_started", "job": "train"}}\n'
    folder.events_path.write_text(started, encoding="utf-8")
    return folder


def test_the_list_of_runs_shows_it_with_the_reason(studio: Studio, newer: RunFolder) -> None:
    (run,) = studio("runs", "--runs", str(newer.path.parent), "--json").report["runs"]
    assert (run["status"], run["run_dir"]) == ("unreadable", str(newer.path.resolve()))
    assert "newer QLoRA Studio" in run["words"] and "Update" in run["words"]


@pytest.mark.parametrize("command", ["resume", "watch"])
def test_it_is_refused_and_not_touched(studio: Studio, newer: RunFolder, command: str) -> None:
    before = {path: path.read_bytes() for path in newer.path.iterdir()}
    outcome = studio(command, str(newer.path), "--json")
    assert outcome.code != 0
    assert outcome.report["error"]["kind"] == "newer_version"
    assert "Update QLoRA Studio" in outcome.report["error"]["advice"]
    assert {path: path.read_bytes() for path in newer.path.iterdir() if path.name != "run.lock"} == before
