"""From the first step to a verified export on the card, by real workers."""

from collections.abc import Callable
from pathlib import Path

from tests.engine.training_run import make_run, run_to_end

Machine = Callable[..., Path]


def test_a_run_in_4_bit_is_trained_merged_and_verified_on_the_card(
    machine: Machine, tiny_llama: Path, tmp_path: Path
) -> None:
    machine()
    run = make_run(tmp_path / "runs", tiny_llama, "training.max_steps=4", "export.merge=true")

    state = run_to_end(run)

    assert state.failure is None
    assert state.model is not None and state.probe is not None
    assert state.model.card == state.probe.card_uuid == "GPU-11111111-2222-3333-4444-555555555555"
    assert (state.model.quantization, state.model.compute_dtype) == ("nf4", "bfloat16")
    assert state.model.optimizer == "paged_adamw_32bit"
    assert state.facts.model_dump()["verified"] is True
