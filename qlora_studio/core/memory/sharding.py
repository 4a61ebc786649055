"""Whether the cards of a run share its base out: where a card cannot hold it alone, or the user says so."""

from collections.abc import Callable

from qlora_studio.core.config.run_config import ALL_CARDS, RunConfig, means_several
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.fit import FitVerdict, judge
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.words import say


def with_sharding(
    config: RunConfig, shape: ModelShape, free_bytes: int, cards: int, estimated: Callable[[RunConfig], Estimate]
) -> RunConfig:
    """Return the config with sharding resolved to on or off, and all cards to so many, for estimates of it.

    `estimated` is how an estimate is made for the card with the least free memory. A run by one card stays as it is.
    """
    wish = config.hardware.gpus
    if not means_several(wish):
        return config
    if wish == ALL_CARDS and cards < 2:
        return _with(config, sharding="off")
    named = _with(config, gpus=",".join(map(str, range(cards)))) if wish == ALL_CARDS else config
    if config.hardware.sharding != "auto":
        return named
    whole, cut = _with(named, sharding="off"), _with(named, sharding="on")
    is_needed = judge(estimated(whole), free_bytes).verdict is FitVerdict.NO
    return cut if is_needed and not unshardable(config, shape) else whole


def unshardable(config: RunConfig, shape: ModelShape) -> str:
    """Return why a base cannot be shared out by cards, in a sentence; nothing where it can."""
    if config.quantization.method == "none":
        return say("A base in 16 bits cannot be sharded here: choose 4 bits (quantization.method=nf4).")
    if shape.expert_parameters:
        return say("A mixture of experts cannot be sharded here.")
    return ""


def _with(config: RunConfig, **values: str) -> RunConfig:
    return config.model_copy(update={"hardware": config.hardware.model_copy(update=values)})
