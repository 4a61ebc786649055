"""Spare memory is speed: as few layers are checkpointed as the free memory of a card needs.

A checkpointed layer is computed once more before its backward pass. With a frozen base a forward pass takes 2 N FLOPs a
token and a backward pass 2 N as well, since the base needs no gradient of its weights: 4 N in all, and 6 N where every
layer is computed twice (N parameters; Kaplan et al. 2020, section 2.1, without the gradient of the weights).
"""

from collections.abc import Callable
from dataclasses import replace

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.fit import FitVerdict, judge
from qlora_studio.core.memory.sharding import with_sharding
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.quantity import MIB, bytes_text
from qlora_studio.core.words import say

RESERVE = 512 * MIB  # of the free memory, for what other programs take later; Windows would spill without a word
_PLAIN, _AGAIN = 4, 2  # FLOPs a token and parameter: a step, and what computing all layers once more adds


def with_spare_memory_used(
    config: RunConfig, shape: ModelShape, free_bytes: int, estimated: Callable[[RunConfig], Estimate]
) -> tuple[RunConfig, str]:
    """Return the config with as few layers checkpointed as surely fit, and a sentence on it.

    Only where checkpointing is `auto` and no number of layers is given. `estimated` is how an estimate is made for the
    card; its error is the margin. All layers are checkpointed where not even that fits: then something else gives way.
    """
    training = config.training
    if training.gradient_checkpointing != "auto" or training.checkpointed_layers:
        return config, ""
    low, high = 0, shape.layers
    while low < high:
        middle = (low + high) // 2
        found = estimated(with_checkpointed(config, middle, shape))
        fits = judge(found, free_bytes - RESERVE).verdict is FitVerdict.FITS
        low, high = (low, middle) if fits else (middle + 1, high)
    least = estimated(with_checkpointed(config, shape.layers, shape))
    return with_checkpointed(config, low, shape), _words(low, shape.layers, judge(least, free_bytes).spare_bytes)


def estimate_with_spare(
    config: RunConfig,
    shape: ModelShape,
    free_bytes: int | None,
    estimated: Callable[[RunConfig], Estimate],
    cards: int = 1,
) -> tuple[RunConfig, Estimate]:
    """Return a run as it would be on a card with so much free, and its estimate, with a note on memory to spare.

    `cards` is how many there are, for a run by all of them.
    """
    if free_bytes is None:
        return config, estimated(config)
    config = with_sharding(config, shape, free_bytes, cards, estimated)
    resolved, words = with_spare_memory_used(config, shape, free_bytes, estimated)
    found = estimated(resolved)
    return resolved, replace(found, notes=(*found.notes, words)) if words else found


def with_checkpointed(config: RunConfig, layers: int, shape: ModelShape) -> RunConfig:
    """Return the config with so many layers checkpointed, in plain words: off, on, or on with a number."""
    some = layers if layers < shape.layers else 0
    update = {"gradient_checkpointing": "on" if layers else "off", "checkpointed_layers": some}
    return config.model_copy(update={"training": config.training.model_copy(update=update)})


def checkpointed_of(config: RunConfig, layers: int) -> int:
    """Return how many layers a run checkpoints whose checkpointing is resolved."""
    training = config.training
    return 0 if training.gradient_checkpointing == "off" else min(training.checkpointed_layers or layers, layers)


def speed_beside_all(layers: int, of: int) -> float:
    """Return how many times as fast a step is as one with all layers checkpointed, by its FLOPs."""
    return (_PLAIN + _AGAIN) / (_PLAIN + _AGAIN * layers / max(1, of))


def _words(layers: int, of: int, spare_bytes: int) -> str:
    if layers == of:
        return ""
    count = say("{layers} of {of} layers are", layers=layers, of=of) if layers else say("none of {of} layers is", of=of)
    speed = say("about {speed_beside_all:.2f} × as fast as all", speed_beside_all=speed_beside_all(layers, of))
    return say(
        "{spare_bytes} to spare: {count} checkpointed, {speed}.",
        spare_bytes=bytes_text(spare_bytes),
        count=count,
        speed=speed,
    )
