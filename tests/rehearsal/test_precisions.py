"""What a run can be set to on a card: the precision of base and computing, adapters, packing, the optimizer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.run.run_state import RunState
from tests.engine.training_run import make_run, run_to_end

Machine = Callable[..., None]
_FEW_STEPS = ("training.max_steps=2", "training.max_length=48", "evaluation.every_steps=0")
_PACKED = "training.packing=true"
# Adapters as large as a card's: bitsandbytes keeps states in 8 bit from 4,096 numbers on, and pages from 100,000 on.
_EIGHT_BIT = ("training.optimizer=paged_adamw_8bit", "lora.rank=1024")
_PAGED_BYTES = 2 * 6 * 1024 * 128  # two states of one byte, for the adapters' sides at the two layers' MLPs


def test_dora_on_packed_rows_with_8_bit_states_trains_in_fp16_on_a_card_without_bf16(
    machine: Machine, tiny_llama: Path, tmp_path: Path
) -> None:
    machine("turing")

    state = _train(tiny_llama, tmp_path, "lora.dora=true", _PACKED, *_EIGHT_BIT)

    assert state.model is not None and state.probe is not None
    assert (state.model.quantization, state.model.compute_dtype) == ("nf4", "float16")
    assert state.probe.managed_bytes == _PAGED_BYTES


@pytest.mark.slow
@pytest.mark.parametrize(("card", "dtype"), [("rtx4090", "bfloat16"), ("turing", "float16")])
@pytest.mark.parametrize("method", ["nf4", "none"])
@pytest.mark.parametrize("more", [(), ("lora.dora=true", _PACKED, *_EIGHT_BIT)], ids=["plain", "dora, packed, 8 bit"])
def test_every_precision_of_base_and_computing_trains(
    machine: Machine, tiny_llama: Path, tmp_path: Path, card: str, dtype: str, method: str, more: tuple[str, ...]
) -> None:
    machine(card)

    model = _train(tiny_llama, tmp_path, f"quantization.method={method}", *more).model

    assert model is not None
    assert (model.quantization, model.compute_dtype) == (method, dtype)


def _train(model: Path, folder: Path, *settings: str) -> RunState:
    state = run_to_end(make_run(folder / "runs", model, *_FEW_STEPS, *settings))
    assert state.failure is None
    assert state.step == 2
    return state
