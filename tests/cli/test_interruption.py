"""Ctrl-C in every command and phase: what is said is true, nothing is half made, and no worker is left behind.

Here are the commands that need no torch; the whole table of command and phase is in test_interrupted_jobs.py.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import StepDone
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_ending import end_worker
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker, wait_until_free
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder, run_folders
from qlora_studio.storage.runs.run_queue import RunQueue
from tests.cli.conftest import Outcome
from tests.cli.terminal import Terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo terminals of this kind")
SCRIPTED = (sys.executable, str(Path(__file__).parents[1] / "jobs" / "scripted_worker.py"))
SECOND = "Once more ends it at once."


@pytest.fixture
def folder(studio_home: Path) -> RunFolder:
    return create_run_folder(studio_home / "runs", RunConfig(name="asked"))


@pytest.fixture
def at_work(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcess]:
    """A worker that took three steps in the folder and answers nothing."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    process = start_worker(folder, [*SCRIPTED, "start,steps:3,wait"])
    steps = 0
    for batch in RunFollower(folder, process).batches():
        steps += sum(isinstance(event, StepDone) for event in batch)
        if steps == 3:
            break
    yield process
    process.kill()
    process.wait(10)


@pytest.fixture
def many_rows(tmp_path: Path) -> Path:
    """A dataset that takes some seconds to read."""
    path = tmp_path / "many.jsonl"
    row = {"messages": [{"role": "user", "content": "x" * 200}, {"role": "assistant", "content": "y" * 200}]}
    path.write_text((json.dumps(row) + "\n") * 200_000)
    return path


def assert_interrupted(terminal: Terminal, words: str, code: int = 130) -> None:
    found, shown = terminal.ending()
    assert (found, "Traceback" in shown) == (code, False), shown
    assert words in shown, shown


def test_in_the_midst_of_the_first_imports(studio_home: Path) -> None:
    with Terminal("runs", home=studio_home, PYTHONPROFILEIMPORTTIME="1") as terminal:
        terminal.wait_for(r"\| +pydantic")
        terminal.press_ctrl_c()
        assert_interrupted(terminal, "Interrupted. Nothing was begun.")


def test_a_request_to_end_and_a_closed_terminal_have_codes_of_their_own(studio_home: Path) -> None:
    for number, code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        with Terminal("runs", home=studio_home, PYTHONPROFILEIMPORTTIME="1") as terminal:
            terminal.wait_for(r"\| +pydantic")
            terminal.send(number)
            assert_interrupted(terminal, "Nothing was begun.", code)


def test_prompts_that_are_typed(studio_home: Path, folder: RunFolder) -> None:
    with Terminal("chat", str(folder.path), home=studio_home) as terminal:
        terminal.wait_for("Type your prompts")
        terminal.press_ctrl_c()
        assert_interrupted(terminal, "Interrupted. Nothing was begun.")
    assert not folder.jobs_path.exists()


def test_a_run_that_is_watched_goes_on(studio_home: Path, folder: RunFolder, at_work: WorkerProcess) -> None:
    with Terminal("watch", str(folder.path), home=studio_home) as terminal:
        terminal.wait_for("3/3")
        terminal.press_ctrl_c()
        assert_interrupted(terminal, f"Interrupted. {folder.path.name} goes on.")
    assert at_work.poll() is None


def test_what_was_asked_of_a_run_stays_asked(studio_home: Path, folder: RunFolder, at_work: WorkerProcess) -> None:
    with Terminal("pause", str(folder.path), "--json", home=studio_home) as terminal:
        terminal.wait_for("It answers after the step")
        terminal.press_ctrl_c()
        assert_interrupted(terminal, f"{folder.path.name} was asked to pause, and does it, whoever waits for it.")
    error = json.loads(terminal.shown.splitlines()[-1])["error"]
    assert (error["kind"], '"pause"' in folder.commands_path.read_text()) == ("interrupted", True)
    assert at_work.poll() is None


def test_the_doctor_is_left(studio_home: Path) -> None:
    with Terminal("doctor", home=studio_home) as terminal:
        terminal.wait_for("Python:")
        terminal.press_ctrl_c()
        assert_interrupted(terminal, "Interrupted. Not everything was checked; nothing was changed.")


def test_a_queue_at_work_keeps_what_waits(studio_home: Path, folder: RunFolder) -> None:
    """The run is one that cannot begin, so that its worker ends by itself."""
    queue = RunQueue(studio_home / "runs")
    other = create_run_folder(studio_home / "runs", RunConfig(name="other"))
    for run in (folder, other):
        queue.add(run)
    with Terminal("queue", "--work", home=studio_home) as terminal:
        terminal.wait_for("Started ")
        terminal.press_ctrl_c()
        found, shown = terminal.ending()
    assert found == 130 and "Traceback" not in shown
    waiting = [run.folder.path.name for run in queue.runs()]
    assert waiting == [other.path.name]
    assert f"Interrupted. {folder.path.name} goes on. 1 run waits in the queue." in shown
    assert wait_until_free(folder, 30)


def test_the_reading_of_a_dataset(studio_home: Path, many_rows: Path) -> None:
    problems = many_rows.with_name("problems.jsonl")
    with Terminal("check-data", str(many_rows), "--problems", str(problems), home=studio_home) as terminal:
        terminal.wait_for("Reading rows .*MiB")
        terminal.press_ctrl_c()
        assert_interrupted(terminal, "Stopped. The dataset was only read: it is as it was.")
    assert SECOND in terminal.shown
    assert not problems.exists()
    [job] = map(RunFolder, (studio_home / "cache" / "jobs").iterdir())
    assert (job.state().phase, job.is_busy()) == (Phase.STOPPED, False)


def test_a_run_that_loads_its_libraries_is_ended_at_once_by_a_second_ctrl_c(
    studio_home: Path, tiny_llama: Path, chats: Path, studio: Callable[..., Outcome]
) -> None:
    with Terminal("train", "--model", str(tiny_llama), "--data", str(chats), home=studio_home) as terminal:
        terminal.wait_for("Starting")
        terminal.press_ctrl_c()
        terminal.wait_for("Stopping: nothing is trained yet.")
        terminal.press_ctrl_c()
        assert_interrupted(terminal, "Ended at once. There was no checkpoint: nothing was learned.")
    [run] = run_folders(studio_home / "runs")
    assert not run.is_busy()
    assert f"Go on with: qlora-studio resume {run.path}" in terminal.shown.replace("\r\n", "\n")
    told = [studio("watch", str(run.path), "--json").report, studio("runs", "--json").report["runs"][0]]
    assert [report["status"] for report in told] == ["interrupted", "interrupted"]


def test_a_run_goes_on_where_the_terminal_is_closed(studio_home: Path, tiny_llama: Path, chats: Path) -> None:
    with Terminal("train", "--model", str(tiny_llama), "--data", str(chats), home=studio_home) as terminal:
        terminal.wait_for("Starting")
        terminal.send(signal.SIGHUP)
        [run] = run_folders(studio_home / "runs")
        assert_interrupted(terminal, "Interrupted. The run goes on. See it with: qlora-studio watch", 129)
    assert run.is_busy()
    assert end_worker(run, run.state().pid)


def test_a_run_whose_worker_was_killed_is_lost_for_everybody(
    studio: Callable[..., Outcome], folder: RunFolder, at_work: WorkerProcess
) -> None:
    at_work.kill()
    at_work.wait(10)
    watched = studio("watch", str(folder.path), "--json").report
    assert watched["error"]["kind"] == "worker_died"
    assert watched["status"] == studio("runs", "--json").report["runs"][0]["status"] == "lost"
