"""How often, and how, a run gets over a fault."""

import pytest

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run import events as ev
from qlora_studio.core.run.fault_texts import says_mapping_failed, says_out_of_memory
from qlora_studio.core.run.recovery import batch_plan, recovery_from, with_plan
from qlora_studio.core.run.run_state import RunState, reduce

CONFIG = from_mapping({"training": {"batch_size": 4, "gradient_accumulation": 1}})


def failed(kind: FailureKind) -> ev.Failed:
    return ev.Failed(kind=kind, message="The worker ended.")


def step(number: int) -> ev.StepDone:
    return ev.StepDone(step=number, total_steps=99, epoch=0, loss=1, learning_rate=1)


def saved(number: int) -> ev.CheckpointSaved:
    return ev.CheckpointSaved(step=number, name=f"checkpoint-{number}", size_bytes=1, seconds=1)


def struck(kind: FailureKind, *between: ev.Event) -> list[int | None]:
    """The batch that each of some faults of a kind leaves, what is between told before each; None where it ends."""
    state, batches = RunState(), list[int | None]()
    for told in between:
        state = reduce(state, told)
        if not isinstance(told, ev.StepDone):
            continue
        recovering = recovery_from(failed(kind), CONFIG, state)
        batches.append(recovering.batch_size if recovering else None)
        state = reduce(state, recovering or failed(kind))
    return batches


def test_without_memory_the_batch_is_halved_twice_and_no_more() -> None:
    assert struck(FailureKind.OUT_OF_MEMORY, step(1), saved(2), step(3), saved(4), step(5)) == [2, 1, None]


def loaded(checkpointed: int) -> ev.ModelLoaded:
    return ev.ModelLoaded(
        architecture="LlamaForCausalLM",
        parameters=1,
        trainable=1,
        footprint_bytes=1,
        quantization="nf4",
        compute_dtype="bfloat16",
        optimizer="paged_adamw_32bit",
        device="a card",
        target_modules=[],
        layers=32,
        checkpointed_layers=checkpointed,
    )


def test_layers_that_keep_their_activations_give_way_before_the_batch_does() -> None:
    steps = (step(1), step(2), step(3), step(4))
    assert struck(FailureKind.OUT_OF_MEMORY, loaded(12), *steps) == [4, 2, 1, None]
    assert struck(FailureKind.OUT_OF_MEMORY, loaded(32), *steps[:3]) == [2, 1, None]

    first = recovery_from(failed(FailureKind.OUT_OF_MEMORY), CONFIG, reduce(RunState(), loaded(12)))
    assert first is not None
    assert "every layer" in first.message
    after = with_plan(CONFIG, batch_plan(CONFIG, reduce(RunState(), first)))
    assert (after.training.gradient_checkpointing, after.training.checkpointed_layers) == ("on", 0)


@pytest.mark.parametrize(("wish", "layers"), [("off", 0), ("on", 12), ("auto", 12)])
def test_what_the_user_said_of_checkpointing_stays(wish: str, layers: int) -> None:
    config = CONFIG.with_value("training.gradient_checkpointing", wish).with_value(
        "training.checkpointed_layers", layers
    )
    recovering = recovery_from(failed(FailureKind.OUT_OF_MEMORY), config, reduce(RunState(), loaded(layers)))
    assert recovering is not None
    assert (recovering.checkpoints_all, recovering.batch_size) == (False, 2)


@pytest.mark.parametrize("kind", [FailureKind.CARD_LOST, FailureKind.WORKER_DIED])
def test_a_fault_in_the_same_place_is_tried_once_more_and_one_beyond_a_new_checkpoint_again(kind: FailureKind) -> None:
    assert struck(kind, step(3), saved(3), step(3)) == [4, None]
    assert struck(kind, step(3), saved(4), step(5)) == [4, 4]


def test_other_failures_are_not_tried_again() -> None:
    assert struck(FailureKind.NON_FINITE_LOSS, step(3)) == [None]


def test_a_run_without_a_safe_checkpoint_is_said_to_begin_again() -> None:
    began = recovery_from(failed(FailureKind.WORKER_DIED), CONFIG, RunState())
    went_on = recovery_from(failed(FailureKind.WORKER_DIED), CONFIG, reduce(RunState(), saved(2)))

    assert began is not None
    assert went_on is not None
    assert began.message == "The worker ended: the run begins again, since it has no safe checkpoint yet."
    assert went_on.message == "The worker ended: the run goes on from its last safe checkpoint."


def test_a_halved_batch_stays_halved_after_another_fault() -> None:
    state = RunState()
    for kind in (FailureKind.OUT_OF_MEMORY, FailureKind.WORKER_DIED):
        recovering = recovery_from(failed(kind), CONFIG, state)
        assert recovering is not None
        state = reduce(state, recovering)

    assert batch_plan(CONFIG, state).batch_size == 2


def test_a_driver_that_cannot_map_is_told_from_one_that_has_no_memory() -> None:
    assert says_mapping_failed("CUDA driver error: unknown error")
    assert says_mapping_failed("CUDA driver error: operation not supported")
    assert not says_mapping_failed("CUDA driver error: out of memory")
    assert says_out_of_memory("CUDA driver error: out of memory")
    assert not says_mapping_failed("CUDA error: unspecified launch failure")
