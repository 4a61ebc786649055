"""A base is shared out where a card cannot hold it alone, and what each card takes then."""

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.gpu_catalogue import find_gpu
from qlora_studio.core.memory.resident import gathered_bytes, weights_bytes
from qlora_studio.core.memory.setup import setup_for
from qlora_studio.core.memory.sharding import unshardable, with_sharding
from qlora_studio.core.memory.spare import estimate_with_spare
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.quantity import GIB, bytes_text
from qlora_studio.storage.models.catalogue import find_in_catalogue


def _shape(name: str) -> ModelShape:
    known = find_in_catalogue(name)
    assert known is not None
    return known.shape


_SHAPE = _shape("Qwen/Qwen3-8B")
_MIXTURE = _shape("Qwen/Qwen3-30B-A3B")
_LARGE, _SMALL = 24 * GIB, 6 * GIB  # a card that holds an 8B, and one that does not


def _config(gpus: str = "0,1", sharding: str = "auto") -> RunConfig:
    config = RunConfig().with_value("training.max_length", 512).with_value("training.batch_size", 1)
    return config.with_value("hardware.gpus", gpus).with_value("hardware.sharding", sharding)


def _estimated(config: RunConfig) -> Estimate:
    return estimate(config, _SHAPE, gpu=find_gpu("RTX 3090"))


@pytest.mark.parametrize(
    ("free", "wish", "resolved"),
    [(_LARGE, "auto", "off"), (_SMALL, "auto", "on"), (_LARGE, "on", "on"), (_SMALL, "off", "off")],
)
def test_cards_share_a_base_out_where_one_cannot_hold_it_or_the_user_says_so(
    free: int, wish: str, resolved: str
) -> None:
    found = with_sharding(_config(sharding=wish), _SHAPE, free, 2, _estimated)
    assert found.hardware.sharding == resolved


@pytest.mark.parametrize("gpus", ["auto", "1", "cpu", "GPU-0a"])
def test_a_run_by_one_card_stays_as_it_is(gpus: str) -> None:
    config = _config(gpus)
    assert with_sharding(config, _SHAPE, _SMALL, 2, _estimated) is config


def test_all_cards_are_as_many_as_there_are() -> None:
    two, four = (with_sharding(_config("all", "on"), _SHAPE, _SMALL, cards, _estimated) for cards in (2, 4))
    assert (setup_for(two, _SHAPE).cards, setup_for(four, _SHAPE).cards) == (2, 4)
    alone = with_sharding(_config("all", "on"), _SHAPE, _SMALL, 1, _estimated)
    assert setup_for(alone, _SHAPE).cards == 1


def test_what_cannot_be_shared_out_is_named() -> None:
    assert "mixture" in unshardable(_config(), _MIXTURE)
    assert "16 bits" in unshardable(_config().with_value("quantization.method", "none"), _SHAPE)
    assert not unshardable(_config(), _SHAPE)
    kept = with_sharding(_config(), _MIXTURE, _SMALL, 2, lambda tried: estimate(tried, _MIXTURE))
    assert kept.hardware.sharding == "off"
    assert setup_for(_config(sharding="on"), _MIXTURE).cards == 1


@pytest.mark.parametrize("cards", [2, 3, 8])
def test_a_card_has_its_part_of_the_packed_weights_and_all_else_whole(cards: int) -> None:
    whole, cut = (setup_for(_config(",".join(map(str, range(cards))), sharding), _SHAPE) for sharding in ("off", "on"))
    packed = _SHAPE.quantizable_parameters // 2
    saved = weights_bytes(_SHAPE, whole) - (weights_bytes(_SHAPE, cut) - gathered_bytes(_SHAPE, cut))
    assert saved == pytest.approx(packed * (cards - 1) / cards, rel=1e-4)
    assert gathered_bytes(_SHAPE, cut) == pytest.approx(3 * packed / _SHAPE.layers, rel=1e-4)


def test_adapters_optimizer_and_activations_are_those_of_a_card_that_has_all() -> None:
    whole, cut = (_estimated(_config(sharding=sharding)) for sharding in ("off", "on"))
    for part in ("adapter", "optimizer", "activations", "logits", "context"):
        assert cut.component(part) == whole.component(part)


def test_the_estimate_says_that_the_base_is_shared_out() -> None:
    resolved, found = estimate_with_spare(_config(), _SHAPE, _SMALL, _estimated, 2)
    assert resolved.hardware.sharding == "on"
    assert "shared out over 2 cards" in " ".join(found.notes)
    assert f"receives {bytes_text(_SHAPE.quantizable_parameters // 2)}" in " ".join(found.notes)  # half, there and back
    _, found = estimate_with_spare(_config(), _SHAPE, _LARGE, _estimated, 2)
    assert "shared out" not in " ".join(found.notes)
