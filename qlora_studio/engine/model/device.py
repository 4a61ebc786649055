"""Which device computes, in which precision, and what its memory holds, by torch's word and by NVIDIA's library."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import psutil
import torch

from qlora_studio.core.config.optimizer import AUTO, resolved
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.events import Warned
from qlora_studio.core.words import say
from qlora_studio.engine.context import Reporter

_LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes")


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


def choose_device(config: RunConfig, reporter: Reporter) -> Device:
    """Return the device and the precision for a run; a wish that the hardware cannot grant is told and replaced."""
    on_card = torch.cuda.is_available()
    dtype = _compute_dtype(config.quantization.compute_dtype, on_card, reporter)
    optimizer = resolved(config.training.optimizer, on_card=on_card)
    if not on_card and config.training.optimizer not in (AUTO, optimizer):
        reporter.emit(Warned(kind="no_paging", message="Without a card there is nothing to page: plain AdamW is used."))
    return Device("cuda:0" if on_card else "cpu", dtype, optimizer, _checkpoints(config, on_card))


def with_checkpointing(config: RunConfig, device: Device) -> Device:
    """Return the device as it is once the config says how many layers are checkpointed, none among them."""
    return replace(device, gradient_checkpointing=_checkpoints(config, device.is_cuda))


def _checkpoints(config: RunConfig, on_card: bool) -> bool:
    training = config.training
    by_itself = on_card or training.checkpointed_layers > 0
    return by_itself if training.gradient_checkpointing == "auto" else training.gradient_checkpointing == "on"


def _compute_dtype(wish: str, on_card: bool, reporter: Reporter) -> torch.dtype:
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if on_card else _cpu_has_bf16()
    best = torch.bfloat16 if has_bf16 else (torch.float16 if on_card else torch.float32)
    if wish == "auto":
        return best
    dtype: torch.dtype = getattr(torch, wish)
    if (dtype == torch.bfloat16 and not has_bf16) or (dtype == torch.float16 and not on_card):
        name = str(best).removeprefix("torch.")
        reporter.warn(
            "compute_dtype",
            say(
                "This {on_card} does not compute in {wish}; {name} is used.",
                on_card="card" if on_card else "processor",
                wish=wish,
                name=name,
            ),
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


@dataclass(frozen=True)
class Card:
    """A card by what the driver tells of it; `process_bytes` is 0 where it does not tell (Windows)."""

    uuid: str
    name: str
    driver: str
    process_bytes: int


def current_card() -> Card:
    """Return the card that torch computes on, by NVML's names, so that window and worker mean the same one."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    uuid = str(getattr(properties, "uuid", ""))
    uuid = uuid if not uuid or uuid.startswith("GPU-") else f"GPU-{uuid}"
    driver, used = _by_nvml(uuid)
    return Card(uuid, properties.name, driver, used)


def least_free(cards: Sequence[str]) -> int:
    """Return the free bytes of the one of several cards, by UUID, that has the least; the own one is among them."""
    import pynvml

    own, _total = torch.cuda.mem_get_info()
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in cards[1:]]
        return min(int(own), *(int(pynvml.nvmlDeviceGetMemoryInfo(handle).free) for handle in handles))
    except pynvml.NVMLError:
        return int(own)


def library_versions() -> dict[str, str]:
    """Return the versions that decide how much memory a step takes."""
    return {name: version(name) for name in _LIBRARIES}


def _by_nvml(uuid: str) -> tuple[str, int]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return "", 0
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        used = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
        return str(driver), int(used[0] or 0) if used else 0
    except pynvml.NVMLError:
        return "", 0
    finally:
        pynvml.nvmlShutdown()
