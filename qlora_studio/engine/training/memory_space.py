"""Whether a run can fit at all, asked before anything is read or loaded for it; and what is done with the rest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.memory import sharding, spare
from qlora_studio.core.memory.fit import least_bytes
from qlora_studio.core.memory.probe_record import newest_for
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say
from qlora_studio.engine.data.row_files import row_lengths
from qlora_studio.engine.model.device import Device, current_card, least_free
from qlora_studio.engine.model.free_memory import free_ram
from qlora_studio.engine.training.probe import expected_memory
from qlora_studio.storage.models.location import ModelLocation, model_facts
from qlora_studio.storage.runs.probe_records import probe_records


def require_memory(base: Path, config: RunConfig, device: Device, ranks: int = 1) -> None:
    """Raise StudioError where base and smallest step are more than is free: on the card, or in memory without one.

    What may fit is tried: the probe, or half the batch, finds its way. Counted is what surely is needed. Where several
    `ranks` may share the base out, it is counted so.
    """
    shape = model_facts(ModelLocation("folder", config.model.source, base)).shape
    if shape is None:
        return
    wishes = ("on", "auto") if device.is_cuda else ("on",)
    shares = ranks > 1 and config.hardware.sharding in wishes and not sharding.unshardable(config, shape)
    named = {"gpus": ",".join(map(str, range(ranks))), "sharding": "on"} if shares else {"sharding": "off"}
    needed = least_bytes(_with_hardware(config, **named), shape, on_card=device.is_cuda)
    free, total = torch.cuda.mem_get_info() if device.is_cuda else (free_ram(), psutil.virtual_memory().total)
    if needed <= free:
        return
    place = "the card" if device.is_cuda else "the memory"
    raise StudioError(
        say(
            "{source} does not fit: its weights and the smallest step take at least {needed}, and "
            "{place} has {free} free of {total}.",
            source=config.model.source,
            needed=bytes_text(needed),
            place=place,
            free=bytes_text(free),
            total=bytes_text(total),
        ),
        kind=FailureKind.MODEL_REFUSED,
        advice=_advice(config, needed <= total, ranks),
    )


def with_sharding(
    base: Path, config: RunConfig, device: Device, training: Any, cards: Sequence[str], ranks: int
) -> RunConfig:
    """Return the config with sharding decided for the cards of a run, by the one of them with the least free memory.

    `ranks` are those of all machines. Raises StudioError where it is wished for and cannot be.
    """
    shape = model_facts(ModelLocation("folder", config.model.source, base)).shape
    wish = config.hardware.sharding
    if wish == "on" and ranks > max(1, len(cards)):
        raise _not_shared(say("Several machines do not share a base out: a network is too slow for it."))
    if len(cards) < 2 or ranks > len(cards):
        return _with_hardware(config, sharding="off")
    if shape is None:
        return config
    why = sharding.unshardable(config, shape) or _without_nccl(device)
    if wish == "on" and why:
        raise _not_shared(why)
    if not device.is_cuda or why:
        return _with_hardware(config, sharding="on" if wish == "on" else "off")
    longest, name = int(row_lengths(training).max()), current_card().name
    named = _with_hardware(config, gpus=",".join(cards))
    return sharding.with_sharding(
        named, shape, least_free(cards), len(cards), lambda tried: expected_memory(base, tried, name, longest)
    )


def with_spare_memory_used(base: Path, config: RunConfig, device: Device, training: Any) -> RunConfig:
    """Return the config with as few layers checkpointed as the card's free memory needs, where that is left to us.

    Asked before anything is loaded. What the context takes by now is not free, and is counted again: on the safe side.
    """
    shape = model_facts(ModelLocation("folder", config.model.source, base)).shape
    if shape is None or not device.is_cuda:
        return config
    card, longest = current_card(), int(row_lengths(training).max())
    known = newest_for(probe_records(), card.uuid, card.driver)
    free, _total = torch.cuda.mem_get_info()
    return spare.with_spare_memory_used(
        config, shape, free, lambda tried: expected_memory(base, tried, card.name, longest, known)
    )[0]


def _not_shared(why: str) -> StudioError:
    return StudioError(why, kind=FailureKind.INVALID_CONFIG, advice=say("Set hardware.sharding to auto, or to off."))


def _without_nccl(device: Device) -> str:
    """Return why cards cannot share anything out, where this PyTorch has not what they gather by."""
    if not device.is_cuda or torch.distributed.is_nccl_available():
        return ""
    return say("This PyTorch has no NCCL, by which cards gather what they share.")


def _with_hardware(config: RunConfig, **values: str) -> RunConfig:
    return config.model_copy(update={"hardware": config.hardware.model_copy(update=values)})


def _advice(config: RunConfig, is_taken_by_others: bool, ranks: int) -> str:
    if ranks > 1 and config.hardware.sharding == "off":
        return say("Let the cards share the base out (hardware.sharding = auto), or choose a smaller model.")
    if is_taken_by_others:
        return "Close what else takes memory there, or choose a smaller model."
    if config.quantization.method == "none":
        return "Keep the base in 4 bit (quantization.method = nf4), or choose a smaller model."
    return "Choose a smaller model."
