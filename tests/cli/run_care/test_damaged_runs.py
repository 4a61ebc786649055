"""Runs with damage in them: each is in the list with what is wrong, and a command says it in a sentence."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import ExitCode
from qlora_studio.core.run.events import Finished, StepDone, WorkerStarted
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from tests.cli.conftest import Outcome

Studio = Callable[..., Outcome]
pytestmark = pytest.mark.usefixtures("studio_home")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def make_run(runs: Path, name: str, damage: bytes = b"") -> RunFolder:
    folder = create_run_folder(runs, RunConfig(name=name))
    with MessageLogWriter(folder.events_path) as log:
        log.append(WorkerStarted(job="train", studio="0", pid=1, time=1.79e9))
        log.append(StepDone(step=1, total_steps=1, epoch=1, loss=1, learning_rate=1, time=1.79e9))
    with folder.events_path.open("ab") as file:
        file.write(damage)
    with MessageLogWriter(folder.events_path) as log:
        log.append(Finished(time=1.79e9))
    return folder


def test_one_run_that_cannot_be_read_hides_no_other_and_says_why(studio: Studio, runs: Path) -> None:
    make_run(runs, "whole")
    make_run(runs, "broken").config_path.write_bytes(b"\xff")
    found = {
        run["name"].partition("-")[2][7:]: run for run in studio("runs", "--runs", str(runs), "--json").report["runs"]
    }
    assert found["whole"]["status"] == "completed" and found["whole"]["damage"] is None
    assert found["broken"]["status"] == "unreadable" and "byte 0 is no UTF-8" in found["broken"]["words"]
    assert "byte 0 is no UTF-8" in studio("runs", "--runs", str(runs)).out


def test_an_event_of_no_time_that_a_calendar_has_is_told_and_the_rest_is_shown(studio: Studio, runs: Path) -> None:
    damage = b'{"version":1,"time":1e20,"type":"finished"}\n' * 3
    folder = make_run(runs, "run", damage)
    told = "3 lines of events.jsonl could not be read, the first at line 3."
    (run,) = studio("runs", "--runs", str(runs), "--json").report["runs"]
    assert (run["status"], run["steps"], run["damage"]) == ("completed", 1, told)
    assert told in studio("runs", "--runs", str(runs)).out
    watched = studio("watch", str(folder.path))
    assert watched.code == ExitCode.OK and watched.err.count(told) == 1 and "completed" in watched.out


@pytest.mark.skipif(sys.platform == "win32", reason="links are another matter there")
@pytest.mark.parametrize("command", ["resume", "pause", "end"])
def test_a_command_on_a_run_that_cannot_be_read_says_what_is_wrong(studio: Studio, runs: Path, command: str) -> None:
    folder = make_run(runs, "run")
    folder.config_path.unlink()
    folder.config_path.symlink_to("/dev/zero")
    outcome = studio(command, str(folder.path), "--json")
    assert outcome.code == ExitCode.ERROR
    assert "run.toml cannot be read: it is a link that leads out of its folder" in outcome.err


@pytest.mark.skipif(sys.platform == "win32", reason="links are another matter there")
def test_a_folder_of_runs_that_cannot_be_read_is_told_so(studio: Studio, runs: Path) -> None:
    runs.symlink_to(runs)
    outcome = studio("runs", "--runs", str(runs))
    assert outcome.code == ExitCode.ERROR and "runs cannot be read: " in outcome.err


def test_settings_that_cannot_be_read_are_told_by_any_command(studio: Studio, studio_home: Path) -> None:
    studio_home.mkdir(exist_ok=True)
    (studio_home / "settings.json").write_bytes(b"{")
    outcome = studio("runs")
    assert outcome.code == ExitCode.OK and outcome.err.count("settings.json cannot be read") == 1
