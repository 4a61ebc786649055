"""Whether a run can fit at all, asked before anything is read, prepared or loaded for it."""

from pathlib import Path

import psutil
import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.memory.fit import least_bytes
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.model.device import Device
from qlora_studio.engine.model.free_memory import free_ram
from qlora_studio.storage.models.location import ModelLocation, model_facts


def require_memory(base: Path, config: RunConfig, device: Device) -> None:
    """Raise StudioError where base and smallest step are more than is free: on the card, or in memory without one.

    What may fit is tried: the probe, or half the batch, finds its way. Counted is what surely is needed.
    """
    shape = model_facts(ModelLocation("folder", config.model.source, base)).shape
    if shape is None:
        return
    needed = least_bytes(config, shape, on_card=device.is_cuda)
    free, total = torch.cuda.mem_get_info() if device.is_cuda else (free_ram(), psutil.virtual_memory().total)
    if needed <= free:
        return
    place = "the card" if device.is_cuda else "the memory"
    raise StudioError(
        f"{config.model.source} does not fit: its weights and the smallest step take at least {bytes_text(needed)}, "
        f"and {place} has {bytes_text(free)} free of {bytes_text(total)}.",
        kind=FailureKind.MODEL_REFUSED,
        advice=_advice(config, needed <= total),
    )


def _advice(config: RunConfig, is_taken_by_others: bool) -> str:
    if is_taken_by_others:
        return "Close what else takes memory there, or choose a smaller model."
    if config.quantization.method == "none":
        return "Keep the base in 4 bit (quantization.method = nf4), or choose a smaller model."
    return "Choose a smaller model."
