"""The table of optimizers: what is kept for a tensor, what runs, and that a new one arrives everywhere by itself."""

import pytest

from qlora_studio.core.config.optimizer import OPTIMIZERS, Optimizer, optimizer_named, resolved
from qlora_studio.core.config.run_config import RunConfig, all_settings
from qlora_studio.core.errors import StudioError
from qlora_studio.core.export.disk_need import checkpoint_bytes
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.resident import resident
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.shape import shape_from_config

_SHAPE = shape_from_config(
    {"model_type": "llama", "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 1000}
    | {"intermediate_size": 1024}
)


@pytest.mark.parametrize(
    ("name", "elements", "ordinary", "managed"),
    [
        ("adamw_torch", 1000, [2000, 2000], []),
        ("adamw_torch_fused", 1000, [4, 2000, 2000], []),
        ("paged_adamw_32bit", 99_999, [399_996, 399_996], []),
        ("paged_adamw_32bit", 100_000, [], [400_000, 400_000]),
        ("paged_adamw_8bit", 4095, [16_380, 16_380], []),
        ("paged_adamw_8bit", 4096, [4096, 4096, 64, 64], []),
        ("paged_adamw_8bit", 100_001, [1564, 1564], [100_001, 100_001]),
        ("adamw_32bit", 100_000, [400_000, 400_000], []),
        ("adamw_8bit", 100_001, [100_001, 100_001, 1564, 1564], []),
    ],
)
def test_an_optimizer_keeps_what_bitsandbytes_and_torch_keep_for_a_bf16_tensor(
    name: str, elements: int, ordinary: list[int], managed: list[int]
) -> None:
    assert optimizer_named(name).buffers(elements, 2) == (ordinary, managed)


def test_an_optimizer_that_nobody_knows_is_refused_instead_of_guessed() -> None:
    setup = MemorySetup(targets=_SHAPE.targets("auto"), optimizer="paged_lion_8bit")
    with pytest.raises(StudioError, match='"paged_lion_8bit" is no optimizer'):
        resident(_SHAPE, setup)


@pytest.mark.parametrize(
    ("wish", "on_card", "runs"),
    [
        ("auto", True, "paged_adamw_32bit"),
        ("auto", False, "adamw_torch"),
        ("paged_adamw_8bit", True, "paged_adamw_8bit"),
        ("paged_adamw_8bit", False, "adamw_torch"),
        ("adamw_8bit", False, "adamw_8bit"),
    ],
)
def test_auto_and_what_needs_a_card_are_replaced_by_what_runs(wish: str, on_card: bool, runs: str) -> None:
    assert resolved(wish, on_card=on_card) == runs


def test_a_new_optimizer_arrives_by_its_record_alone(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(all_settings.cache_clear)
    all_settings.cache_clear()
    monkeypatch.setitem(OPTIMIZERS, "lion_8bit", Optimizer(title="Lion", states=1, paged_from=1))
    info = next(info for info in all_settings() if info.path == "training.optimizer")
    assert info.choices["lion_8bit"] == "Lion"
    plain = RunConfig()
    lion = plain.with_value("training.optimizer", "lion_8bit")
    numbers = _SHAPE.adapter_parameters(lion.lora.rank, _SHAPE.targets("auto"))
    assert estimate(lion, _SHAPE).managed_bytes == 4 * numbers
    assert checkpoint_bytes(plain, _SHAPE) - checkpoint_bytes(lion, _SHAPE) == 4 * numbers


def test_what_a_config_may_not_choose_is_told_with_what_it_may() -> None:
    with pytest.raises(
        ValueError, match="'auto', 'paged_adamw_32bit', 'paged_adamw_8bit', 'adamw_32bit' or 'adamw_8bit'"
    ):
        RunConfig().with_value("training.optimizer", "adamw_torch")
