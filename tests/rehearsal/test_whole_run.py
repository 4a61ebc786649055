"""One run on the card from the first step to a verified export, and what befalls the same run on the way."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from qlora_studio.core.errors import ExitCode
from qlora_studio.core.run.events import ModelLoaded, StepDone
from qlora_studio.core.run.run_state import RunState
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.cli.conftest import run_cli
from tests.engine.training_run import final_weights, make_run, run_to_end
from tests.rehearsal.machine import environment

Machine = Callable[..., None]
_UUID = "GPU-11111111-2222-3333-4444-555555555555"
_SETTINGS = ("training.max_steps=4", "lora.dropout=0.1", "training.gradient_checkpointing=on")
_TRAINING = "transformers.trainer:Trainer.training_step"
_EVALUATION = "transformers.trainer:Trainer.get_eval_dataloader"


@dataclass(frozen=True)
class Undisturbed:
    """The run that nothing befell."""

    run: RunFolder
    state: RunState


@pytest.fixture(scope="module")
def undisturbed(libraries: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    run = make_run(folder / "runs", tiny_llama, "export.merge=true", *_SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(libraries, folder).items():
            patch.setenv(name, value)
        return Undisturbed(run, run_to_end(run))


def test_a_run_in_4_bit_is_trained_merged_and_verified_on_the_card(undisturbed: Undisturbed) -> None:
    state = undisturbed.state

    assert state.failure is None
    assert state.model is not None and state.probe is not None
    assert state.model.card == state.probe.card_uuid == _UUID
    assert (state.model.quantization, state.model.compute_dtype) == ("nf4", "bfloat16")
    assert state.model.optimizer == "paged_adamw_32bit"
    assert state.facts.model_dump()["verified"] is True


def test_the_energy_of_the_card_is_told_with_the_steps_by_its_counter(undisturbed: Undisturbed) -> None:
    state, watts = undisturbed.state, 38.25  # as the record has it
    steps = [event for event in undisturbed.run.events() if isinstance(event, StepDone)]
    assert state.energy is not None and steps[0].energy_joules is not None
    trained = state.energy - steps[0].energy_joules

    assert watts * sum(step.seconds for step in steps[1:]) * 0.99 < trained
    assert state.energy < watts * (state.last_event - state.started)


@pytest.mark.parametrize(
    ("fault", "step"),
    [(f"lost@{_TRAINING}#6", 2), (f"lost@{_EVALUATION}#2", 4)],
    ids=["in the third step", "after the last step"],
)
def test_a_run_whose_card_is_lost_goes_on_from_its_checkpoint_to_the_same_bits(
    machine: Machine, undisturbed: Undisturbed, tiny_llama: Path, tmp_path: Path, fault: str, step: int
) -> None:
    machine(REHEARSAL_FAULTS=fault)
    run = make_run(tmp_path / "runs", tiny_llama, *_SETTINGS)

    state = run_to_end(run)

    assert state.failure is None
    assert [(event.kind, event.step) for event in state.recoveries] == [("card_lost", step)]
    assert state.resumptions == (step,)
    assert state.step == 4
    assert final_weights(run) == final_weights(undisturbed.run)


def test_a_probe_that_finds_no_memory_halves_the_batch(
    machine: Machine, undisturbed: Undisturbed, tiny_llama: Path, tmp_path: Path
) -> None:
    assert undisturbed.state.probe is not None
    machine(REHEARSAL_BYTES=str(undisturbed.state.probe.allocated_bytes - 1))
    run = make_run(tmp_path / "runs", tiny_llama, *_SETTINGS)

    state = run_to_end(run)

    assert state.failure is None
    assert [(event.kind, event.step, event.batch_size) for event in state.recoveries] == [("out_of_memory", 0, 1)]
    assert state.probe is not None and state.probe.rows == 1


@pytest.mark.slow
def test_layers_that_kept_their_activations_give_way_when_others_fill_the_card_in_a_step(
    machine: Machine, tiny_llama: Path, tmp_path: Path
) -> None:
    machine(REHEARSAL_FAULTS=f"full@{_TRAINING}#6")
    run = make_run(tmp_path / "runs", tiny_llama, *_SETTINGS, "training.gradient_checkpointing=auto")

    state = run_to_end(run)

    assert state.failure is None
    (recovery,) = state.recoveries
    assert (recovery.kind, recovery.step, recovery.batch_size, recovery.checkpoints_all) == (
        "out_of_memory",
        2,
        2,
        True,
    )
    loaded = [event for event in run.events() if isinstance(event, ModelLoaded)]
    assert [event.checkpointed_layers for event in loaded] == [0, loaded[0].layers]
    assert state.resumptions == (2,)
    assert state.step == 4


@pytest.mark.slow
def test_an_evaluation_that_finds_no_memory_is_skipped_and_told(
    machine: Machine, tiny_llama: Path, tmp_path: Path
) -> None:
    machine(REHEARSAL_FAULTS=f"spike@{_EVALUATION}#2")  # that after the last step
    run = make_run(tmp_path / "runs", tiny_llama, *_SETTINGS)

    state = run_to_end(run)

    assert state.failure is None
    assert [event.kind for event in state.warnings] == ["evaluation_skipped"]
    assert state.evaluation is not None and state.evaluation.step == 0


def test_a_verification_that_finds_no_memory_says_so(
    machine: Machine, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    machine(REHEARSAL_FAULTS="full@torch.nn.functional:embedding#1")

    outcome = run_cli("verify", str(undisturbed.run.exports_path / "safetensors"), "--json", home=tmp_path / "home")

    assert outcome.code == ExitCode.OUT_OF_MEMORY, outcome.err
    assert outcome.report["error"]["kind"] == "out_of_memory"
    assert "Traceback" not in outcome.err


def test_a_chat_that_finds_no_memory_says_so(machine: Machine, undisturbed: Undisturbed, tmp_path: Path) -> None:
    machine(REHEARSAL_FAULTS="full@transformers.generation.utils:GenerationMixin.generate#1")

    outcome = run_cli("chat", str(undisturbed.run.path), "--prompt", "What is 2 + 2?", "--json", home=tmp_path / "home")

    assert outcome.code == ExitCode.OUT_OF_MEMORY, outcome.err
    assert outcome.report["error"]["kind"] == "out_of_memory"
    assert "Traceback" not in outcome.err
