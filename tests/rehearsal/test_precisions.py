"""What a run can be set to on a card: the precision of base and computing, adapters, packing, the optimizer."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

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


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_what_cards_alone_keep_in_fp32_of_fp16_is_what_a_processor_makes_of_fp32(
    machine: Machine, tmp_path: Path, name: str
) -> None:
    """There and back: the gradient comes in fp32 and goes on in fp16."""
    machine("turing")
    words = f"""
        import torch
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).half()
        there, here = x.cuda().requires_grad_(), x.float().requires_grad_()
        weights = torch.arange(20.0).reshape(4, 5)
        a, b = torch.{name}(there, -1, dtype=torch.float32), torch.{name}(here, -1)
        (a * weights.cuda()).sum().backward()
        (b * weights).sum().backward()
        assert there.is_cuda and a.dtype == torch.float32 and there.grad.dtype == torch.float16
        torch.testing.assert_close(a.cpu(), b)
        torch.testing.assert_close(there.grad.cpu(), here.grad.half())
        """
    subprocess.run([sys.executable, "-c", dedent(words)], check=True, cwd=tmp_path, timeout=120)
