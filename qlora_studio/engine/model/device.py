"""Which device computes, in which precision, and what its memory holds."""

from dataclasses import dataclass

import psutil
import torch

from qlora_studio.core.run.events import Warned
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.context import JobContext


@dataclass(frozen=True)
class Device:
    """The device of a run. `compute_dtype` is what matrices are multiplied in."""

    name: str
    compute_dtype: torch.dtype
    optimizer: str
    gradient_checkpointing: bool

    @property
    def is_cuda(self) -> bool:
        """Whether it is an NVIDIA card."""
        return self.name.startswith("cuda")

    @property
    def adapter_dtype(self) -> torch.dtype:
        """What adapters are trained in: bf16 with bf16; fp32 else, since a gradient scaler cannot unscale bf16."""
        return torch.bfloat16 if self.compute_dtype == torch.bfloat16 else torch.float32


def choose_device(config: RunConfig, context: JobContext) -> Device:
    """Return the device and the precision for a run; a wish that the hardware cannot grant is told and replaced."""
    on_card = torch.cuda.is_available()
    dtype = _compute_dtype(config.quantization.compute_dtype, on_card, context)
    optimizer = config.training.optimizer
    if not on_card:
        optimizer_name = "adamw_torch"
        if optimizer != "auto":
            context.emit(
                Warned(kind="no_paging", message="Without a card there is nothing to page: plain AdamW is used.")
            )
    else:
        optimizer_name = "paged_adamw_32bit" if optimizer == "auto" else optimizer
    wish = config.training.gradient_checkpointing
    checkpointing = on_card if wish == "auto" else wish == "on"
    return Device("cuda:0" if on_card else "cpu", dtype, optimizer_name, checkpointing)


def _compute_dtype(wish: str, on_card: bool, context: JobContext) -> torch.dtype:
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if on_card else _cpu_has_bf16()
    best = torch.bfloat16 if has_bf16 else (torch.float16 if on_card else torch.float32)
    if wish == "auto":
        return best
    dtype: torch.dtype = getattr(torch, wish)
    if (dtype == torch.bfloat16 and not has_bf16) or (dtype == torch.float16 and not on_card):
        name = str(best).removeprefix("torch.")
        context.warn(
            "compute_dtype", f"This {'card' if on_card else 'processor'} does not compute in {wish}; {name} is used."
        )
        return best
    return dtype


def _cpu_has_bf16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def memory_of(device: Device, peak_bytes: int) -> dict[str, int]:
    """Return the fields of StepDone that weigh memory, in bytes; `peak_bytes` is the most allocated on the card."""
    facts = {"process_bytes": psutil.Process().memory_info().rss}
    if device.is_cuda:
        facts["allocated_bytes"] = torch.cuda.memory_allocated()
        facts["reserved_bytes"] = torch.cuda.memory_reserved()
        facts["peak_bytes"] = peak_bytes
    return facts
