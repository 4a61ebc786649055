"""What a predicted rate is made of, against the real training code: a traced step, counted operation by operation."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig

from qlora_studio.core.memory.gpu_catalogue import GpuSpec
from qlora_studio.core.memory.rate import batch_seconds
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.engine.memory.traced_step import TraceOptions, trace_step

WIDTHS: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 14336,
    "vocab_size": 1000,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
TOKENS = 1024  # more than bitsandbytes multiplies with without unpacking
VIEWS = ("view", "t.", "transpose", "expand", "slice", "select", "unsqueeze", "squeeze", "detach", "alias", "split")
NOT_OF_A_STEP = ("uniform_", "empty")  # initial weights


class Counter(TorchDispatchMode):
    """Counts a step's FLOPs in products, the bytes that all else moves, and its kernels."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.moved = self.kernels = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.").removeprefix("_unsafe_")
        if name.startswith((*VIEWS, *NOT_OF_A_STEP)):
            return result
        self.kernels += 1
        if name.startswith("bitsandbytes.gemm_4bit"):
            outputs, inputs = args[2]
            self.flops += 2 * args[0].numel() * outputs
            self.moved += 2.5 * outputs * inputs
        elif name.startswith(("mm", "addmm", "bmm")):
            self.flops += 2 * result.numel() * args[-2].shape[-1]
        else:
            self.moved += sum(item.nbytes for item in _tensors([args, list((kwargs or {}).values()), result]))
        return result


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [item for each in value for item in _tensors(each)] if isinstance(value, list | tuple) else []


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpointing": True},
        {"checkpointing": False, "dropout": 0.05},
        {"checkpointing": False, "targets": frozenset({"q_proj", "v_proj"})},
    ],
    ids=["all layers checkpointed", "none, with dropout", "two adapters a layer"],
)
def test_the_work_of_a_layer_is_that_of_the_real_training_code(changes: dict[str, Any]) -> None:
    """One layer more, so that head and embeddings fall away. The kernel of attention is no product that can be seen."""
    one, two = _counted(1, changes), _counted(2, changes)
    passes = 3.5 + changes.get("checkpointing", True)
    attention = passes * 4 * TOKENS * TOKENS / 2 * WIDTHS["num_attention_heads"] * WIDTHS["head_dim"]
    assert _predicted(changes, "flops") == pytest.approx(two.flops - one.flops + attention, rel=0.01)
    assert _predicted(changes, "bandwidth") == pytest.approx(two.moved - one.moved, rel=0.15)
    adapters = len(changes.get("targets", "qkvogud"))
    launching = _of_a_layer(changes, math.inf, math.inf) - 0.2e-3 * adapters
    assert launching == pytest.approx(10e-6 * (two.kernels - one.kernels), rel=0.25)


def _counted(layers: int, changes: dict[str, Any]) -> Counter:
    raw = WIDTHS | {"num_hidden_layers": layers}
    counter = Counter()
    with counter:
        trace_step(AutoConfig.for_model(**raw), _setup(raw, changes), TraceOptions(steps=1, evaluate=False))
    return counter


def _predicted(changes: dict[str, Any], what: str) -> float:
    """Return the FLOPs or bytes of a layer that a prediction reckons with: of a card that is slow in that alone."""
    slow = 1e6
    speeds, share = ((slow, math.inf), 0.85) if what == "flops" else ((math.inf, slow), 0.75)
    adapters = len(changes.get("targets", "qkvogud"))
    return (_of_a_layer(changes, *speeds) - 0.2e-3 * adapters) * share * slow


def _of_a_layer(changes: dict[str, Any], flops: float, bandwidth: float) -> float:
    return _seconds(2, changes, flops, bandwidth) - _seconds(1, changes, flops, bandwidth)


def _seconds(layers: int, changes: dict[str, Any], flops: float, bandwidth: float) -> float:
    raw = WIDTHS | {"num_hidden_layers": layers}
    card = GpuSpec("any", 1 << 40, 9.0, flops, bandwidth)
    found = batch_seconds(shape_from_config(raw), _setup(raw, changes), card)
    assert found is not None
    return found


def _setup(raw: dict[str, Any], changes: dict[str, Any]) -> MemorySetup:
    usual = MemorySetup(targets=shape_from_config(raw).targets("auto"), row_tokens=TOKENS, optimizer="adamw_torch")
    return replace(usual, **changes)
