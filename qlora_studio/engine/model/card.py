"""The graphics card under this process: which one it is, and what NVIDIA's library says that the process holds."""

import os
from dataclasses import dataclass
from importlib.metadata import version

import torch

_LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes")


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
