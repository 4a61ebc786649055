"""A run from the command line, by real workers on a tiny random model: trained, watched, asked, stopped, resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qlora_studio.core.errors import ExitCode
from qlora_studio.core.run.commands import Stop
from qlora_studio.core.run.events import StepDone
from qlora_studio.jobs.worker_process import wait_until_free
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.cli.conftest import Outcome

Cli = Callable[..., Outcome]
SMALL = ["--set", "training.max_length=64", "--set", "training.gradient_accumulation=1", "--set", "lora.rank=4"]


@dataclass(frozen=True)
class Trained:
    """A run that was trained to its end, and the home it was trained in."""

    report: dict[str, Any]
    home: Path

    @property
    def run_dir(self) -> str:
        return str(self.report["run_dir"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def trained(cli: Cli, home: Path, tiny_llama: Path, chats: Path) -> Trained:
    outcome = cli(
        *("train", "--model", str(tiny_llama), "--data", str(chats), "--json", "--runs", str(home / "runs")),
        *("--set", "training.max_steps=6", "--set", "training.learning_rate=0.01", *SMALL),
        home=home,
    )
    assert outcome.code == 0, outcome.err
    return Trained(outcome.report, home)


@pytest.fixture
def long_run(
    launch: Callable[..., subprocess.Popen[str]], home: Path, tiny_llama: Path, chats: Path
) -> Iterator[tuple[subprocess.Popen[str], RunFolder]]:
    """A run that would take for ever, seen to take its first steps."""
    runs = home / f"long-{time.monotonic_ns()}"
    process = launch(
        *("train", "--model", str(tiny_llama), "--data", str(chats), "--json", "--runs", str(runs)),
        *("--set", "training.max_steps=100000", "--set", "export.merge=false", *SMALL),
        home=home,
    )
    folder = wait_for_steps(runs, process)
    yield process, folder
    folder.send(Stop(save=False))
    assert wait_until_free(folder, 60)
    if process.poll() is None:
        process.kill()
    process.communicate()


def wait_for_steps(runs: Path, process: subprocess.Popen[str]) -> RunFolder:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for path in runs.glob("*"):
            folder = RunFolder(path)
            if any(isinstance(event, StepDone) for event in folder.events()):
                return folder
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    raise AssertionError("the run took no step")


def test_training_reports_what_it_made(trained: Trained) -> None:
    report = trained.report

    assert report["status"] == "completed"
    assert report["steps"] == 6
    assert report["train_loss"] > 0
    assert report["eval_loss"] < report["eval_loss_before"]
    assert (Path(report["adapter_dir"]) / "adapter_model.safetensors").is_file()
    assert (Path(report["merged_dir"]) / "config.json").is_file()


@pytest.mark.slow
def test_the_run_can_be_repeated_from_its_own_file(trained: Trained, cli: Cli) -> None:
    again = cli("train", f"{trained.run_dir}/run.toml", "--json", "--runs", f"{trained.home}/again", home=trained.home)

    assert again.report["train_loss"] == pytest.approx(trained.report["train_loss"], rel=1e-6)
    assert again.report["eval_loss"] == pytest.approx(trained.report["eval_loss"], rel=1e-6)


def test_a_finished_run_is_watched_from_start_to_end(trained: Trained, cli: Cli) -> None:
    outcome = cli("watch", trained.run_dir, "--json", home=trained.home)

    assert outcome.code == 0
    assert {key: outcome.report[key] for key in ("status", "steps", "train_loss", "eval_loss")} == {
        key: trained.report[key] for key in ("status", "steps", "train_loss", "eval_loss")
    }
    assert "Step 6: held-out loss" in outcome.err


def test_the_run_is_listed(trained: Trained, cli: Cli) -> None:
    runs = cli("runs", "--json", home=trained.home).report["runs"]

    assert [run["status"] for run in runs if run["run_dir"] == trained.run_dir] == ["completed"]


def test_a_finished_run_is_not_resumed(trained: Trained, cli: Cli) -> None:
    outcome = cli("resume", trained.run_dir, home=trained.home)

    assert outcome.code == ExitCode.ERROR
    assert "is complete" in outcome.err


def test_a_run_at_work_is_measured_saved_and_stopped_from_another_terminal(
    long_run: tuple[subprocess.Popen[str], RunFolder], cli: Cli, home: Path
) -> None:
    _, folder = long_run

    assert cli("evaluate-now", str(folder.path), "--json", home=home).report["eval_loss"] > 0
    assert cli("save", str(folder.path), "--json", home=home).report["checkpoint"].startswith("checkpoint-")
    stopped = cli("stop", str(folder.path), "--json", home=home).report
    assert stopped["status"] == "stopped"
    assert Path(stopped["adapter_dir"], "adapter_model.safetensors").is_file()


def test_base_and_tuned_model_answer(trained: Trained, cli: Cli) -> None:
    outcome = cli(
        *("chat", trained.run_dir, "--prompt", "What is 2 and 2?", "--variant", "both", "--max-new-tokens", "8"),
        "--json",
        home=trained.home,
    )

    assert outcome.code == 0, outcome.err
    assert set(outcome.report["answers"]) == {"base", "tuned"}


@pytest.mark.slow
def test_the_adapter_is_exported(trained: Trained, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "adapter-only"

    outcome = cli("export", trained.run_dir, "--to", "adapter", "--out", str(out), "--json", home=trained.home)

    assert outcome.code == 0, outcome.err
    assert outcome.report["out_dir"] == str(out)
    assert list(out.rglob("adapter_model.safetensors"))


def test_the_preview_shows_which_tokens_are_trained(cli: Cli, home: Path, tiny_llama: Path, chats: Path) -> None:
    outcome = cli("preview", "--model", str(tiny_llama), "--data", str(chats), "--rows", "2", "--json", home=home)

    assert outcome.code == 0, outcome.err
    assert outcome.report["supported"]
    assert len(outcome.report["rows"]) == 2
    tokens = outcome.report["rows"][0]["tokens"]
    assert "".join(token["string"] for token in tokens) == outcome.report["rows"][0]["text"]
    trained = "".join(token["string"] for token in tokens if token["trained"])
    assert trained.startswith("Ahoy! 0 and 0 make 0.")
    assert "What is" not in trained


@pytest.fixture(scope="module")
def check_broken(cli: Cli, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Outcome, str]]:
    """Check a dataset of which no row can be read; return what was told, and the file of its problems."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "broken.jsonl").write_text('{"messages": [{"role": "user"\nnothing\n{"a": 1}\n')

    def check() -> tuple[Outcome, str]:
        problems = folder / "problems.jsonl"
        problems.unlink(missing_ok=True)
        outcome = cli("check-data", str(folder / "broken.jsonl"), "--problems", str(problems), "--json", home=home)
        return outcome, problems.read_text("utf-8")

    return check


@pytest.fixture(scope="module")
def refused(check_broken: Callable[[], tuple[Outcome, str]]) -> tuple[Outcome, str]:
    return check_broken()


def test_a_dataset_that_cannot_be_trained_on_is_refused(refused: tuple[Outcome, str]) -> None:
    outcome, problems = refused
    assert outcome.code == ExitCode.DATA_REFUSED
    told = [json.loads(line) for line in problems.splitlines()]
    assert [(row["file"], row["line"], row["verdict"]) for row in told] == [
        ("broken.jsonl", line, "rejected") for line in (1, 2, 3)
    ]
    assert outcome.report["rows"]["rejected"] == outcome.report["rows"]["total"] == 3
    assert outcome.report["rejections"][0]["line"] == 1


def test_what_was_checked_is_told_again_without_a_worker(
    refused: tuple[Outcome, str], check_broken: Callable[[], tuple[Outcome, str]], home: Path
) -> None:
    before = sorted((home / "cache" / "jobs").iterdir())
    outcome, problems = check_broken()
    assert (outcome.code, outcome.report, problems) == (refused[0].code, refused[0].report, refused[1])
    assert sorted((home / "cache" / "jobs").iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_saves_the_work_so_far(long_run: tuple[subprocess.Popen[str], RunFolder]) -> None:
    process, folder = long_run

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)

    outcome = Outcome(process.returncode, out, err)
    assert outcome.code == ExitCode.INTERRUPTED, err
    assert outcome.report["status"] == "stopped"
    assert 0 < outcome.report["steps"] < 100_000
    assert (folder.adapter_path / "adapter_model.safetensors").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_a_second_ctrl_c_ends_at_once_and_the_run_can_be_resumed(
    long_run: tuple[subprocess.Popen[str], RunFolder], cli: Cli, home: Path
) -> None:
    process, folder = long_run
    process.send_signal(signal.SIGSTOP)  # both arrive before the worker can have saved anything
    os.kill(folder.state().pid, signal.SIGSTOP)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "Once more ends it" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    os.kill(folder.state().pid, signal.SIGCONT)
    _, err = process.communicate(timeout=120)

    assert process.returncode == ExitCode.INTERRUPTED, err
    assert "qlora-studio resume" in err
    assert not folder.adapter_path.exists()
    listed = cli("runs", "--runs", str(folder.path.parent), "--json", home=home).report["runs"]
    watched = cli("watch", str(folder.path), "--json", home=home).report
    assert listed[0]["status"] == watched["status"] == "interrupted"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_command_line_leaves_the_run_going(
    long_run: tuple[subprocess.Popen[str], RunFolder], cli: Cli, home: Path
) -> None:
    process, folder = long_run

    process.kill()
    process.wait()
    step = folder.state().step
    deadline = time.monotonic() + 60
    while folder.state().step <= step:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    folder.send(Stop(save=True))

    assert cli("watch", str(folder.path), "--json", home=home).report["status"] == "stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_worker_is_told_and_the_run_can_be_resumed(
    long_run: tuple[subprocess.Popen[str], RunFolder], cli: Cli, home: Path
) -> None:
    process, folder = long_run

    os.kill(folder.state().pid, signal.SIGKILL)
    out, err = process.communicate(timeout=60)

    outcome = Outcome(process.returncode, out, err)
    assert outcome.code == ExitCode.WORKER_DIED
    assert outcome.report["error"]["kind"] == "worker_died"
    assert "SIGKILL" in outcome.report["error"]["message"]


@pytest.mark.slow
def test_after_an_infinite_loss_a_run_goes_on_with_half_the_rate_and_on_other_rows_only_when_told_to(
    cli: Cli, home: Path, tiny_llama: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(chats.read_bytes())
    monkeypatch.setenv("QLORA_STUDIO_FAULTS", "nan@3")
    failed = cli(
        *("train", "--model", str(tiny_llama), "--data", str(rows), "--json", "--runs", str(tmp_path)),
        *("--set", "training.max_steps=4", "--set", "checkpoint.every_steps=1", *SMALL, "--set", "export.merge=false"),
        home=home,
    )
    monkeypatch.delenv("QLORA_STUDIO_FAULTS")
    assert failed.report["error"]["kind"] == "non_finite_loss"
    with rows.open("a", encoding="utf-8") as file:
        file.write(rows.read_text("utf-8").splitlines()[0] + "\n")
    folder = failed.report["run_dir"]
    assert cli("resume", folder, "--json", home=home).code == ExitCode.DAMAGED
    resumed = cli("resume", folder, "--lower-rate", "--accept-changes", "--json", home=home)
    assert resumed.report["status"] == "completed", resumed.err
    state = RunFolder(folder).state()
    assert [(event.step, event.scale) for event in state.rates] == [(2, 0.5)]
    assert [event.what for event in state.accepted] == ["data"]
