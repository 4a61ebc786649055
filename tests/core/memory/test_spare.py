"""Spare memory becomes speed: as few layers are checkpointed as surely fit."""

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fit import FitVerdict, judge
from qlora_studio.core.memory.gpu_catalogue import find_gpu
from qlora_studio.core.memory.spare import RESERVE, estimate_with_spare, with_checkpointed, with_spare_memory_used
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.quantity import GIB
from tests.core.memory.test_estimator import LLAMA_8B

SHAPE = shape_from_config(LLAMA_8B)
CONFIG = RunConfig().with_value("training.batch_size", 1).with_value("lora.rank", 16)


def _estimated(config: RunConfig) -> Estimate:
    return estimate(config, SHAPE, gpu=find_gpu("RTX 4090"))


def _layers(config: RunConfig) -> int:
    training = config.training
    if training.gradient_checkpointing == "off":
        return 0
    return training.checkpointed_layers or SHAPE.layers


@pytest.mark.parametrize("gib", [8, 10, 14, 18, 24, 48])
def test_one_layer_less_would_not_surely_fit(gib: int) -> None:
    chosen, _ = with_spare_memory_used(CONFIG, SHAPE, gib * GIB, _estimated)
    layers = _layers(chosen)
    assert chosen.training.gradient_checkpointing != "auto"
    if layers < SHAPE.layers:
        assert judge(_estimated(chosen), gib * GIB - RESERVE).verdict is FitVerdict.FITS
    if layers:
        one_less = with_checkpointed(CONFIG, layers - 1, SHAPE)
        assert judge(_estimated(one_less), gib * GIB - RESERVE).verdict is not FitVerdict.FITS


def test_an_8b_on_24_gb_checkpoints_no_layer_and_with_dropout_few() -> None:
    none, _ = with_spare_memory_used(CONFIG, SHAPE, round(23.6 * GIB), _estimated)
    few, words = with_spare_memory_used(CONFIG.with_value("lora.dropout", 0.05), SHAPE, round(23.6 * GIB), _estimated)
    assert 1 <= _layers(few) <= 6
    assert _layers(none) == 0
    assert words.endswith(f"to spare: {_layers(few)} of 32 layers are checkpointed, about 1.41 × as fast as all.")


@pytest.mark.parametrize(("wish", "layers"), [("on", 0), ("off", 0), ("on", 7), ("auto", 7)])
def test_what_the_user_said_is_not_changed(wish: str, layers: int) -> None:
    config = CONFIG.with_value("training.gradient_checkpointing", wish).with_value(
        "training.checkpointed_layers", layers
    )
    assert with_spare_memory_used(config, SHAPE, 80 * GIB, _estimated) == (config, "")


def test_where_not_even_all_layers_help_all_are_checkpointed_and_nothing_is_promised() -> None:
    chosen, words = with_spare_memory_used(CONFIG, SHAPE, 6 * GIB, _estimated)
    assert (_layers(chosen), words) == (32, "")
    assert estimate_with_spare(CONFIG, SHAPE, 6 * GIB, _estimated)[1] == _estimated(CONFIG)


def test_an_estimate_tells_what_the_run_will_take_and_why() -> None:
    _, found = estimate_with_spare(CONFIG, SHAPE, 24 * GIB, _estimated)
    assert _estimated(CONFIG).total_bytes < found.total_bytes < 24 * GIB
    assert "to spare" in found.notes[-1]
    assert estimate_with_spare(CONFIG, SHAPE, None, _estimated) == (CONFIG, _estimated(CONFIG))


def test_more_layers_never_take_more() -> None:
    sizes = [_estimated(with_checkpointed(CONFIG, layers, SHAPE)).total_bytes for layers in range(SHAPE.layers + 1)]
    assert sizes == sorted(sizes, reverse=True)
