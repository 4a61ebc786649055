"""Two cards in one machine: the queue trains a run on each at once, or both train one run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.events import StepDone, WorkerStarted
from qlora_studio.core.run.run_state import RunState
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


def _worked_off(run: RunFolder, home: Path) -> RunState:
    """Train a run from a process that sees the machine's cards; return its state."""
    outcome = run_cli("queue", str(run.path), "--work", "--runs", str(run.path.parent), "--json", home=home)
    assert "ended" in outcome.report, outcome
    return run.state()


def _start(run: RunFolder) -> float:
    return next(event.time for event in run.events() if isinstance(event, WorkerStarted))


@pytest.mark.slow
def test_one_run_is_trained_on_both_cards_at_once(
    machine: Machine, tiny_llama: Path, tmp_path: Path, studio_home: Path
) -> None:
    """Of unlike cards, in the precision that both have; the gradients meet in fp32, whoever carries them."""
    machine("two")
    settings = ("quantization.compute_dtype=float16", "training.max_steps=3", "evaluation.every_steps=0")
    alone = make_run(tmp_path / "alone", tiny_llama, f"hardware.gpus={[*_CARDS][1]}", *settings)
    together = make_run(tmp_path / "together", tiny_llama, "hardware.gpus=all", *settings)

    states = [_worked_off(run, studio_home) for run in (alone, together)]

    assert [state.failure for state in states] == [None, None]
    assert states[1].model is not None
    assert states[1].model.cards == [*_CARDS]
    losses = [[event.loss for event in run.events() if isinstance(event, StepDone)] for run in (alone, together)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.slow
def test_cards_that_cannot_compute_alike_are_told_before_the_first_step(
    machine: Machine, tiny_llama: Path, tmp_path: Path, studio_home: Path
) -> None:
    machine("two")
    failure = _worked_off(make_run(tmp_path / "runs", tiny_llama, "hardware.gpus=all"), studio_home).failure
    assert failure is not None
    assert failure.kind is FailureKind.INVALID_CONFIG
    assert "do not compute alike: the first one in torch.float16, card GPU-1111" in failure.message
    assert "compute_dtype=float16" in failure.advice
