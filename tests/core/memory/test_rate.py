"""Predicted rates: beside published ones, as the work grows, and never a guess."""

from dataclasses import replace
from typing import Any

import pytest

from qlora_studio.core.memory.gpu_catalogue import GPUS, find_gpu
from qlora_studio.core.memory.rate import ERROR_SHARE, batch_seconds, tokens_per_second
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.shape import ModelShape, shape_from_config
from tests.core.memory.test_estimator import LLAMA_8B

LLAMA_2_7B = LLAMA_8B | {"num_key_value_heads": 32, "intermediate_size": 11008, "vocab_size": 32000}
MISTRAL_7B = LLAMA_8B | {"vocab_size": 32000}
LLAMA_2_70B = MISTRAL_7B | {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "intermediate_size": 28672,
}
ATTENTION = frozenset({"q_proj", "k_proj", "v_proj", "o_proj"})
# NF4, flash attention and checkpointing of every layer, without torch.compile or kernels of their own.
PUBLISHED: dict[str, tuple[dict[str, Any], str, dict[str, Any], int]] = {
    "Answer.AI, fsdp_qlora, 2024, half of two cards": (LLAMA_2_7B, "RTX 3090", {"rank": 64, "batch": 8}, 1198),
    "Answer.AI, the same": (LLAMA_2_7B, "RTX 4090", {"rank": 64, "batch": 8}, 2330),
    "LLaMA-Factory's wiki, FA2": (LLAMA_2_7B, "A100 40 GB", {"rank": 8}, 2741),
    "LLaMA-Factory's wiki, FA2, long rows": (LLAMA_2_7B, "A100 40 GB", {"rank": 8, "row_tokens": 16384}, 3542),
    "IBM fms-acceleration, without the upcast": (
        MISTRAL_7B,
        "A100 80 GB",
        {"batch": 4, "row_tokens": 4096, "targets": ATTENTION},
        3596,
    ),
    "IBM fms-acceleration, 70B": (
        LLAMA_2_70B,
        "A100 80 GB",
        {"batch": 4, "row_tokens": 4096, "targets": ATTENTION},
        464,
    ),
}
SHAPE = shape_from_config(LLAMA_8B)
CARD = find_gpu("RTX 4090")


@pytest.mark.parametrize("source", PUBLISHED)
def test_a_published_rate_is_within_the_error_that_is_told(source: str) -> None:
    model, card, changes, published = PUBLISHED[source]
    shape = shape_from_config(model)
    found = tokens_per_second(shape, _setup(shape, **changes), find_gpu(card))
    assert found == pytest.approx(published, rel=ERROR_SHARE)


@pytest.mark.parametrize(
    ("shape", "changes", "card"),
    [
        (SHAPE, {}, None),
        (SHAPE, {}, find_gpu("GTX 1080 Ti")),
        (SHAPE, {}, find_gpu("NVIDIA GeForce RTX 4090 Laptop GPU")),
        (SHAPE, {"compute_bytes": 4}, CARD),
        (SHAPE, {"dora": True}, CARD),
        (shape_from_config({**LLAMA_8B, "model_type": "brand_new"}), {}, CARD),
        (replace(SHAPE, layer_shapes=(replace(SHAPE.layer_shapes[0], experts=10**8),)), {}, CARD),
    ],
    ids=["no card", "no speed", "a laptop's card", "fp32", "DoRA", "unknown family", "mixture of experts"],
)
def test_nothing_is_predicted_where_nothing_is_known(shape: ModelShape, changes: dict[str, Any], card: Any) -> None:
    assert tokens_per_second(shape, _setup(shape, **changes), card) is None


@pytest.mark.parametrize(
    ("name", "is_known"),
    [
        ("NVIDIA GeForce RTX 4090", True),
        ("NVIDIA A100-SXM4-80GB", True),
        ("NVIDIA A100 80GB PCIe", True),
        ("NVIDIA H100 80GB HBM3", True),
        ("Tesla V100-SXM2-32GB", True),
        ("NVIDIA RTX 6000 Ada Generation", True),
        ("3090", True),
        ("NVIDIA H100 PCIe", False),
        ("NVIDIA GeForce RTX 3070 Ti", False),
        ("NVIDIA GeForce RTX 4070 SUPER", False),
        ("NVIDIA A10", False),
    ],
)
def test_a_relative_of_a_known_card_has_its_memory_and_not_its_speed(name: str, is_known: bool) -> None:
    found = find_gpu(name)
    assert found is not None
    assert bool(found.flops) is is_known


def test_every_card_that_is_offered_has_a_bandwidth_and_all_with_tensor_cores_a_speed() -> None:
    assert all(gpu.bandwidth for gpu in GPUS)
    assert all(bool(gpu.flops) == (gpu.compute >= 7.0) for gpu in GPUS)
    ratios = [gpu.flops / gpu.bandwidth for gpu in GPUS if gpu.flops]  # a digit too many would show here
    assert 60 < min(ratios) < max(ratios) < 450


def test_a_layer_that_is_checkpointed_costs_time_and_all_of_them_half_a_step_at_most() -> None:
    times = [_seconds(checkpointed_layers=layers, checkpointing=layers > 0) for layers in range(33)]
    assert times == sorted(times)
    assert 1.3 < times[-1] / times[0] < 1.5


def test_a_tiny_batch_takes_what_its_launches_take_and_a_large_one_grows_with_its_tokens() -> None:
    assert _seconds(row_tokens=16) == pytest.approx(_seconds(row_tokens=32), rel=0.05)
    assert _seconds(batch=8) / _seconds(batch=4) == pytest.approx(2, rel=0.05)


def test_what_is_known_to_cost_time_costs_time() -> None:
    assert _seconds(dropout=0.05) > _seconds() > _seconds(trained_share=0.3)
    assert _seconds(attention="efficient", masked=True) > _seconds()
    assert _seconds() > _seconds(quantization="none")
    forward = batch_seconds(SHAPE, _setup(SHAPE), CARD, trains=False)
    assert forward is not None
    assert 2.5 < _seconds() / forward < 4


def _seconds(**changes: Any) -> float:
    found = batch_seconds(SHAPE, _setup(SHAPE, **changes), CARD)
    assert found is not None
    return found


def _setup(shape: ModelShape, **changes: Any) -> MemorySetup:
    usual: dict[str, Any] = {"targets": shape.targets("auto")}
    return MemorySetup(**(usual | changes))
