"""`elsewhere` by its commands: a place is written down, a run sent, followed, asked, submitted again and fetched."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.errors import ExitCode
from qlora_studio.storage.runs.run_folder import RunFolder, run_folders
from tests.cli.conftest import Outcome, start_cli
from tests.elsewhere.places import program_for, put_program, put_scheduler, until

Studio = Callable[..., Outcome]


@pytest.fixture
def source(tmp_path: Path) -> tuple[str, ...]:
    """What names a run for `submit`."""
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n')
    return ("--model", "owner/model", "--data", str(data), "--set", "name=first")


def test_a_run_goes_the_whole_way_by_commands(
    studio: Studio, source: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_scheduler(tmp_path, monkeypatch)
    there = ("--folder", str(tmp_path / "there"), "--cards", "0")
    studio("elsewhere", "add", "cluster", *there, "--program", program_for("start,steps:2,wait"))
    sent = studio("--json", "elsewhere", "submit", *source).report
    run = RunFolder(sent["run_dir"])
    assert (sent["place"], sent["job"]) == ("cluster", "42")
    until(lambda: run.state().step == 2)
    assert studio("--json", "runs").report["runs"][0]["status"] == "training"
    assert studio("--json", "pause", str(run.path)).report["status"] == "paused"

    studio("elsewhere", "add", "cluster", "--program", program_for("start,steps:2,adapter,finish"))
    again = studio("resume", str(run.path))
    assert "Submitted again on cluster." in again.out, again.err
    followed = studio("--json", "elsewhere", "follow", str(run.path)).report
    assert (followed["status"], followed["steps"]) == ("completed", 4)
    fetched = studio("--json", "elsewhere", "fetch", str(run.path)).report
    assert fetched["adapter_dir"] == str(run.adapter_path)
    assert studio("elsewhere", "cancel", str(run.path)).code == ExitCode.NOT_AT_WORK
    assert studio("resume", str(run.path)).code == ExitCode.ERROR


def test_what_would_be_sent_is_shown_and_nothing_is_sent(
    studio: Studio, source: tuple[str, ...], studio_home: Path
) -> None:
    studio("elsewhere", "add", "cluster", "--host", "login.example", "--partition", "gpu")
    shown = studio("--json", "elsewhere", "submit", "--show", *source).report

    assert [file["size"] for file in shown["files"]] == [35]
    assert "#SBATCH --partition=gpu" in shown["script"]
    assert run_folders(studio_home / "runs") == []


def test_a_place_is_changed_field_by_field_listed_and_forgotten(studio: Studio) -> None:
    studio("elsewhere", "add", "cluster", "--host", "login.example")
    studio("elsewhere", "add", " cluster ", "--time", "1:00:00")
    wrong = studio("elsewhere", "add", "cluster", "--cards", "many")

    assert wrong.code == ExitCode.INVALID_CONFIG
    assert wrong.err.startswith("cards: must be a number")
    assert "nodes: must be a whole number" in studio("elsewhere", "add", "cluster", "--nodes", "two").err
    assert "nodes: must be at least 1" in studio("elsewhere", "add", "cluster", "--nodes", "0").err
    [place] = studio("--json", "elsewhere", "places").report["places"]
    assert (place["host"], place["time"], place["cards"]) == ("login.example", "1:00:00", "1")
    assert studio("elsewhere", "forget", "cluster").out == "cluster is forgotten.\n"
    assert "There are no places." in studio("elsewhere", "places").out
    assert studio("elsewhere", "check", "cluster").code == ExitCode.USAGE


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_a_sending_that_hangs_and_leaves_nothing(
    studio: Studio, source: tuple[str, ...], studio_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_scheduler(tmp_path, monkeypatch)
    put_program(tmp_path, "cat", "exec sleep 60")
    studio("elsewhere", "add", "cluster", "--folder", str(tmp_path / "there"), "--cards", "0")
    sending = start_cli("elsewhere", "submit", *source, home=studio_home)
    until(lambda: [*tmp_path.glob("there/*/elsewhere/sent/1/*.part")])
    sending.send_signal(signal.SIGINT)
    _, err = sending.communicate(timeout=30)

    assert sending.returncode == ExitCode.INTERRUPTED
    assert "Nothing was submitted: it was stopped." in err
    assert run_folders(studio_home / "runs") == []
    assert [*(tmp_path / "there").iterdir()] == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_a_second_ctrl_c_while_the_scheduler_is_asked_does_not_say_that_nothing_was_submitted(
    studio: Studio, source: tuple[str, ...], studio_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_scheduler(tmp_path, monkeypatch)
    put_program(tmp_path, "sbatch", f"touch {tmp_path}/asked; exec sleep 20")
    studio("elsewhere", "add", "cluster", "--folder", str(tmp_path / "there"), "--cards", "0")
    sending = start_cli("elsewhere", "submit", *source, home=studio_home)
    until((tmp_path / "asked").exists)
    sending.send_signal(signal.SIGINT)
    time.sleep(0.5)
    sending.send_signal(signal.SIGINT)
    _, err = sending.communicate(timeout=30)

    assert sending.returncode == ExitCode.INTERRUPTED
    assert "Whether it was submitted is not known; what was sent may be left there." in err
    assert len(run_folders(studio_home / "runs")) == 1
