"""Two cards in one machine: the queue trains a run on each at once, and each run sees its own card alone."""

from collections.abc import Callable
from pathlib import Path

from qlora_studio.core.run.events import WorkerStarted
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.cli.conftest import run_cli
from tests.engine.training_run import make_run

Machine = Callable[..., None]
_CARDS = {
    "GPU-bbbbbbbb-2222-3333-4444-555555555555": "float16",  # the GTX 1650
    "GPU-11111111-2222-3333-4444-555555555555": "bfloat16",
}


def test_two_runs_are_trained_at_once_on_a_card_each(machine: Machine, tiny_llama: Path, tmp_path: Path) -> None:
    machine("two")
    settings = ("training.max_steps=2", "training.max_length=48", "evaluation.every_steps=0")
    runs = [make_run(tmp_path / "runs", tiny_llama, f"hardware.gpus={uuid}", *settings) for uuid in _CARDS]
    paths = [str(run.path) for run in runs]

    outcome = run_cli("queue", *paths, "--work", "--runs", str(tmp_path / "runs"), "--json", home=tmp_path)

    assert [(run["run_dir"], run["status"]) for run in outcome.report["ended"]] == [(p, "finished") for p in paths]
    states = [run.state() for run in runs]
    assert {state.model.card: state.model.compute_dtype for state in states if state.model} == _CARDS
    assert max(map(_start, runs)) < min(state.last_event for state in states), "one waited for the other"


def _start(run: RunFolder) -> float:
    return next(event.time for event in run.events() if isinstance(event, WorkerStarted))
