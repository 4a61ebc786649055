"""How much disk a run or an export takes, before anything is written. Sizes are bytes; pure, no disk is looked at."""

from dataclasses import dataclass
from typing import Literal

from qlora_studio.core.config.optimizer import optimizer_named, resolved
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.export.formats import ExportFormat, parse_format
from qlora_studio.core.memory.setup import setup_for
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.quantity import MIB
from qlora_studio.core.words import say

Place = Literal["run", "cache"]
_STATE = 1 * MIB  # schedule, random states, trainer state, manifest; of an export its card and manifest
_WORD = 90  # bytes of a tokenizer's files for each word: 70 to 130
_IN_GGUF = 0.55  # of what a tokenizer takes in files of its own
_PREPARED, _PACKED = 16, 23  # bytes of a prepared token at the peak: the rows on their way, the rows, and their packs


@dataclass(frozen=True)
class DiskNeed:
    """Something that will be written: what, where, how much."""

    place: Place
    what: str
    size: int


def run_needs(
    config: RunConfig, shape: ModelShape, *, convert: bool = False, tokens: int = 0, on_card: bool = True
) -> tuple[DiskNeed, ...]:
    """Return what a run writes: checkpoints, adapter, exports at its end, and what is kept in the cache for it.

    `convert` is whether the base is a GGUF that must be written out in 16 bit first, `tokens` how many the prepared
    trained data has. Checkpoints are the ones to keep, the best, and one in the making, whose room is free for what
    comes at the end.
    """
    adapter, tokenizer = adapter_bytes(config, shape), tokenizer_bytes(shape.vocabulary)
    checkpoint = checkpoint_bytes(config, shape, on_card=on_card)
    ending = [DiskNeed("run", say("adapter and tokenizer"), adapter + tokenizer)]
    if config.export.merge:
        for item in (parse_format(text) for text in config.export.formats):
            size = export_bytes(item, shape.parameters, adapter, tokenizer, width=shape.hidden_size)
            ending.append(DiskNeed("run", export_name(item), size))
    spare = checkpoint - sum(need.size for need in ending)
    making = [DiskNeed("run", say("a checkpoint in the making"), spare)] if spare > 0 else []
    needs = [DiskNeed("run", say("checkpoints"), (config.checkpoint.keep + 1) * checkpoint), *making, *ending]
    if convert:
        needs.append(DiskNeed("cache", say("the base in 16 bit"), 2 * shape.parameters + tokenizer))
    if tokens:
        token = _PACKED if config.training.packing else _PREPARED
        needs.append(DiskNeed("cache", say("prepared data"), int(token * tokens / (1 - config.data.evaluation_share))))
    return tuple(needs)


def checkpoint_bytes(config: RunConfig, shape: ModelShape, *, on_card: bool = True) -> int:
    """Return about what one checkpoint weighs: the adapter, the optimizer's state, and the rest of the state."""
    adapter = adapter_bytes(config, shape)
    optimizer = optimizer_named(resolved(config.training.optimizer, on_card=on_card))
    return adapter + optimizer.stored_bytes(_trained(config, shape), adapter) + _STATE


def adapter_bytes(config: RunConfig, shape: ModelShape) -> int:
    """Return what the adapter weighs, in the precision that it is trained in."""
    return setup_for(config, shape).adapter_bytes * _trained(config, shape)


def tokenizer_bytes(vocabulary: int) -> int:
    """Return about what the files of a tokenizer with so many words weigh."""
    return _WORD * vocabulary


def export_bytes(
    shape: ExportFormat, parameters: int, adapter: int, tokenizer: int = 8 * MIB, *, width: int = 0, weights: int = 0
) -> int:
    """Return what an export takes while it is written: weights, tokenizer, and the adapter that it was made with.

    `tokenizer` is what its files weigh, `width` that of the model, `weights` what the weights take where it is known.
    """
    traits = shape.traits
    size = weights or shape.size(parameters, adapter, width=width)
    words = _IN_GGUF * tokenizer if traits.is_gguf else tokenizer
    return size + (adapter if traits.keeps_adapter else 0) + int(words if traits.has_tokenizer else 0) + _STATE


def export_name(shape: ExportFormat) -> str:
    """Return what an export is called in a list of what is written."""
    return shape.traits.name or shape.title


def _trained(config: RunConfig, shape: ModelShape) -> int:
    lora = config.lora
    return shape.adapter_parameters(lora.rank, shape.targets(lora.target_modules), dora=lora.dora, experts=lora.experts)
