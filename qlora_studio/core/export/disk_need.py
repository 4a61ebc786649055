"""How much disk a run or an export takes, before anything is written. Sizes are bytes; pure, no disk is looked at."""

from dataclasses import dataclass
from typing import Literal

from qlora_studio.core.export.formats import ExportFormat, parse_format
from qlora_studio.core.memory.setup import setup_for
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.quantity import MIB
from qlora_studio.core.run.optimizer import optimizer_named, resolved
from qlora_studio.core.run.run_config import RunConfig

Place = Literal["run", "cache"]
MARGIN = 32 * MIB  # tokenizer, model card, manifest
_STATE = 1 * MIB  # schedule, random states, trainer state, manifest
_PREPARED = 17  # bytes of a prepared token: id and label in 64 bit, and its share of the row


@dataclass(frozen=True)
class DiskNeed:
    """Something that will be written: what, where, how much."""

    place: Place
    what: str
    size: int


def run_needs(config: RunConfig, shape: ModelShape, *, convert: bool = False, tokens: int = 0) -> tuple[DiskNeed, ...]:
    """Return what a run writes: checkpoints, adapter, exports at its end, and what is kept in the cache for it.

    `convert` is whether the base is a GGUF that must be written out in 16 bit first, `tokens` how many the prepared
    data has. Checkpoints are the ones to keep, the best, and one that is being written.
    """
    adapter = adapter_bytes(config, shape)
    needs = [
        DiskNeed("run", "checkpoints", (config.checkpoint.keep + 2) * checkpoint_bytes(config, shape)),
        DiskNeed("run", "adapter and tokenizer", adapter + MARGIN),
    ]
    if config.export.merge:
        shapes = [parse_format(text) for text in config.export.formats]
        needs += [DiskNeed("run", export_name(item), export_bytes(item, shape.parameters, adapter)) for item in shapes]
    if convert:
        needs.append(DiskNeed("cache", "the base in 16 bit", 2 * shape.parameters + MARGIN))
    if tokens:
        needs.append(DiskNeed("cache", "prepared data", _PREPARED * tokens))
    return tuple(needs)


def checkpoint_bytes(config: RunConfig, shape: ModelShape) -> int:
    """Return about what one checkpoint weighs: the adapter, the optimizer in fp32, and the rest of the state."""
    state = optimizer_named(resolved(config.training.optimizer)).most_state_bytes
    return adapter_bytes(config, shape) + state * _trained(config, shape) + _STATE


def adapter_bytes(config: RunConfig, shape: ModelShape) -> int:
    """Return what the adapter weighs, in the precision that it is trained in."""
    return setup_for(config, shape).adapter_bytes * _trained(config, shape)


def export_bytes(shape: ExportFormat, parameters: int, adapter: int) -> int:
    """Return what an export takes while it is written."""
    return shape.size(parameters, adapter) + adapter + MARGIN


def export_name(shape: ExportFormat) -> str:
    """Return what an export is called in a list of what is written."""
    return shape.traits.name or shape.title


def _trained(config: RunConfig, shape: ModelShape) -> int:
    lora = config.lora
    return shape.adapter_parameters(lora.rank, shape.targets(lora.target_modules), dora=lora.dora, experts=lora.experts)
