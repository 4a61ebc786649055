"""Runs at work are asked from another terminal: they answer, or it is said that they did not, by an exit code."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import ExitCode
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Stop
from qlora_studio.core.run.events import AdapterContinued
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker, wait_until_free
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from tests.cli.conftest import Outcome

Studio = Callable[..., Outcome]
Play = Callable[..., WorkerProcess]
ROOT = Path(__file__).resolve().parents[2]
SCRIPTED = (sys.executable, str(ROOT / "tests" / "jobs" / "scripted_worker.py"))
COUNTING = (sys.executable, "-m", "tests.jobs.counting_worker")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return create_run_folder(tmp_path / "runs", RunConfig(name="asked"))


@pytest.fixture
def play(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """Start a worker in the folder and wait until it holds the lock; it is killed when the test ends."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COUNTING_SECONDS", "0.1")
    started: list[WorkerProcess] = []

    def start(*program: str) -> WorkerProcess:
        started.append(start_worker(folder, program))
        next(RunFollower(folder, started[-1], from_start=False).batches())
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(10)


def test_a_run_is_paused_and_says_where_it_is_safe(studio: Studio, folder: RunFolder, play: Play) -> None:
    process = play(*COUNTING)
    told = studio("pause", str(folder.path), "--json")
    assert told.code == ExitCode.OK, told.err
    assert told.report["status"] == "paused"
    assert told.report["checkpoint"] == f"checkpoint-{told.report['steps']}"
    assert process.wait(10) is not None and folder.state().phase is Phase.PAUSED


def test_a_run_is_stopped_with_or_without_saving(studio: Studio, folder: RunFolder, play: Play) -> None:
    play(*SCRIPTED, "start,steps:3,wait_for_stop,finish")
    assert studio("stop", str(folder.path), "--no-save").code == ExitCode.OK
    assert folder.commands_path.read_text().count('"save":false') == 1
    wait_until_free(folder, 10)
    play(*SCRIPTED, "start,steps:3,wait_for_stop,finish")
    assert studio("stop", str(folder.path)).code == ExitCode.OK
    assert folder.commands_path.read_text().count('"save":true') == 1


def test_a_checkpoint_is_saved_and_the_run_goes_on(studio: Studio, folder: RunFolder, play: Play) -> None:
    process = play(*COUNTING)
    told = studio("save", str(folder.path))
    assert (told.code, told.out.split(" ", 1)[1]) == (ExitCode.OK, "is safe.\n")
    assert process.poll() is None or folder.state().phase is Phase.FINISHED


def test_a_worker_that_does_not_answer_is_told_and_ended(studio: Studio, folder: RunFolder, play: Play) -> None:
    process = play(*SCRIPTED, "start,steps:3,wait")
    silent = studio("pause", str(folder.path), "--timeout", "0.3", "--json")
    assert (silent.code, silent.report["error"]["kind"]) == (ExitCode.NO_ANSWER, "no_answer")
    assert process.poll() is None
    assert studio("end", str(folder.path)).code == ExitCode.OK
    assert process.wait(10) == -signal.SIGTERM
    assert not folder.is_busy()


def test_a_run_that_ends_otherwise_is_told_by_its_own_exit_code(studio: Studio, folder: RunFolder, play: Play) -> None:
    play(*SCRIPTED, "start,steps:3,wait_for_stop,fail")
    failed = studio("stop", str(folder.path))
    assert failed.code == ExitCode.DATA_REFUSED and "The dataset is refused." in failed.err
    wait_until_free(folder, 10)
    play(*SCRIPTED, "start,steps:3,wait_for_stop,finish")


def test_a_worker_that_dies_while_it_is_asked_is_told(studio: Studio, folder: RunFolder, play: Play) -> None:
    play(*SCRIPTED, "start,steps:3,wait_for_stop,signal:SIGKILL")
    assert studio("stop", str(folder.path)).code == ExitCode.WORKER_DIED


@pytest.mark.parametrize("command", ["pause", "stop", "save", "evaluate-now", "end"])
def test_a_run_without_a_worker_is_asked_nothing(studio: Studio, folder: RunFolder, command: str) -> None:
    told = studio(command, str(folder.path))
    assert (told.code, told.out) == (ExitCode.NOT_AT_WORK, "")
    assert "No worker is at work" in told.err
    assert not folder.commands_path.exists()


def broke_off(folder: RunFolder, play: Play) -> None:
    process = play(*SCRIPTED, "start,steps:3,wait")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)


def test_a_run_that_broke_off_is_kept_on_record(studio: Studio, folder: RunFolder, play: Play) -> None:
    broke_off(folder, play)
    assert studio("discard", str(folder.path)).code == ExitCode.USAGE
    assert studio("discard", str(folder.path), "--keep").code == ExitCode.OK
    assert folder.state().phase is Phase.FAILED
    assert studio("discard", str(folder.path), "--yes").code == ExitCode.USAGE
    assert folder.config_path.exists()


def test_a_run_that_broke_off_is_deleted_but_nothing_that_it_points_to(
    studio: Studio, folder: RunFolder, play: Play, tmp_path: Path
) -> None:
    broke_off(folder, play)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    folder.exports_path.symlink_to(precious)
    told = studio("discard", str(folder.path), "--yes", "--json")
    assert told.report["deleted"] is True
    assert list(folder.path.parent.iterdir()) == []
    assert (precious / "file").exists()


def test_files_that_are_not_of_the_run_are_not_deleted(
    studio: Studio, folder: RunFolder, play: Play, tmp_path: Path
) -> None:
    broke_off(folder, play)
    (folder.path / "thesis.txt").touch()
    told = studio("discard", str(folder.path), "--yes")
    assert told.code == ExitCode.NOT_WRITABLE and "thesis.txt" in told.err
    (folder.path / "thesis.txt").unlink()
    link = tmp_path / "link"
    link.symlink_to(folder.path)
    assert studio("discard", str(link), "--yes").code == ExitCode.NOT_WRITABLE
    assert folder.config_path.exists()


def test_a_run_at_work_is_not_discarded(studio: Studio, folder: RunFolder, play: Play) -> None:
    play(*SCRIPTED, "start,steps:3,wait")
    assert studio("discard", str(folder.path), "--yes").code == ExitCode.USAGE
    assert folder.config_path.exists()


def test_a_run_that_ends_before_it_could_do_what_was_asked_is_told(
    studio: Studio, folder: RunFolder, play: Play
) -> None:
    play(*SCRIPTED, "start,steps:3,wait_for_stop,finish")
    asking = threading.Timer(0.5, lambda: folder.send(Stop()))
    asking.start()
    told = studio("save", str(folder.path))
    asking.join()
    assert told.code == ExitCode.NOT_AT_WORK
    assert "ended before it could save" in told.err


def test_a_run_is_meant_by_its_name_or_by_how_it_begins(studio: Studio, studio_home: Path) -> None:
    runs = studio_home / "runs"
    one, two = (create_run_folder(runs, RunConfig(name=name)) for name in ("pirate speech", "pirate spelling"))
    for word in (str(one.path), one.path.name, "pirate-speech", "pirate-spee"):
        told = studio("pause", word)
        assert told.code == ExitCode.NOT_AT_WORK, told.err
        assert one.path.name in told.err
    several = studio("pause", "pirate")
    assert several.code == ExitCode.USAGE and one.path.name in several.err and two.path.name in several.err
    for word in ("nobody", "", "../runs"):
        assert studio("pause", word).code == ExitCode.RUN_NOT_FOUND


def test_the_list_of_runs_names_what_a_run_goes_on_from(studio: Studio, studio_home: Path) -> None:
    run = create_run_folder(studio_home / "runs", RunConfig(name="third"))
    writer = MessageLogWriter(run.events_path)
    writer.append(AdapterContinued(parent="adapter", run="x", stages=["first", "second"]))
    writer.close()
    assert studio("runs", "--json").report["runs"][0]["parent"] == "first → second"
    assert "goes on from first → second" in studio("runs").out
