"""NVIDIA's management library through pynvml: cards and samples. Any call may fail and any metric may be missing."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypedDict

import psutil
import pynvml

from qlora_studio.core.config.run_config import AUTO_CARD, CPU, means_several
from qlora_studio.core.errors import StudioError
from qlora_studio.core.words import say
from qlora_studio.jobs.card_choice import chosen_card, chosen_cards
from qlora_studio.jobs.gpu_sample import GpuCard, GpuProcess, GpuSample
from qlora_studio.jobs.torch_build import why_unusable

_THROTTLING = {
    pynvml.nvmlClocksEventReasonSwPowerCap: say("power limit"),
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: say("power brake"),
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "heat",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "heat (hardware)",
    pynvml.nvmlClocksEventReasonHwSlowdown: say("hardware slowdown"),
}
_ABSENT = {
    "NVMLError_LibraryNotFound": say("No NVIDIA driver is installed."),
    "NVMLError_DriverNotLoaded": say("The NVIDIA driver is installed and not loaded. Restart the computer."),
    "NVMLError_LibRmVersionMismatch": say("The NVIDIA driver was updated while running. Restart the computer."),
    "NVMLError_NoPermission": say("No permission to ask the NVIDIA driver."),
}


class Nvml:
    """An open session with the library; use it from one thread."""

    def __init__(self) -> None:
        pynvml.nvmlInit()

    def close(self) -> None:
        """End the session."""
        _quietly(pynvml.nvmlShutdown)

    def cards(self) -> tuple[GpuCard, ...]:
        """Return the cards of this machine."""
        count = _quietly(pynvml.nvmlDeviceGetCount) or 0
        handles = [(index, _quietly(pynvml.nvmlDeviceGetHandleByIndex, index)) for index in range(count)]
        return tuple(self._card(index, handle) for index, handle in handles if handle is not None)

    def sample(self, wish: str = AUTO_CARD, worker_pid: int | None = None, uuid: str = "") -> GpuSample:
        """Return what is measured of the card with this UUID, or of the one that a wish means now.

        Of several UUIDs, with commas between, it is the first; each card that trains with it is measured beside it.
        """
        cards = self.cards()
        first, *_ = named = uuid.split(",")
        try:
            card = next((card for card in cards if first and card.uuid == first), None)
            card = card or (None if first else chosen_card(wish, cards, os.environ))
            together = _together(wish, named, cards)
        except StudioError as error:
            return _absent(error.message, cards)
        answers = card is not None and bool(card.uuid or card.total_bytes)
        handle = _quietly(pynvml.nvmlDeviceGetHandleByIndex, card.index) if card is not None and answers else None
        if card is None or handle is None:
            return _absent(_why_none(wish, card, uuid, cards), cards)
        beside = tuple(self._measured(found, worker_pid) for found in together) if len(together) > 1 else ()
        return replace(_sample(card, handle, worker_pid), cards=cards, together=beside)

    def _measured(self, card: GpuCard, worker_pid: int | None) -> GpuSample:
        """Return what is measured of one of several cards, which may have stopped answering."""
        handle = _quietly(pynvml.nvmlDeviceGetHandleByIndex, card.index)
        if handle is None or not (card.uuid or card.total_bytes):
            return GpuSample(available=False, index=card.index, uuid=card.uuid, name=card.name)
        return _sample(card, handle, worker_pid)

    def _card(self, index: int, handle: Any) -> GpuCard:
        memory = _quietly(pynvml.nvmlDeviceGetMemoryInfo, handle)
        uuid = _text(_quietly(pynvml.nvmlDeviceGetUUID, handle))
        name = _text(_quietly(pynvml.nvmlDeviceGetName, handle)) or f"NVIDIA card {index}"
        total, free = (int(memory.total), int(memory.free)) if memory else (None, None)
        return GpuCard(index=index, uuid=uuid, name=name, total_bytes=total, free_bytes=free)


def absence_in_words(error: pynvml.NVMLError) -> str:
    """Return why no card can be asked."""
    return _ABSENT.get(type(error).__name__, f"The NVIDIA driver does not answer: {error}.")


def _together(wish: str, named: list[str], cards: tuple[GpuCard, ...]) -> tuple[GpuCard, ...]:
    """Return the cards that train a run together: those that it named, or else those that a wish means now."""
    if named[0]:
        return tuple(card for card in cards if card.uuid in named)
    return chosen_cards(wish, cards, os.environ) if means_several(wish) else ()


def _absent(reason: str, cards: tuple[GpuCard, ...]) -> GpuSample:
    return GpuSample(available=False, reason=reason, time=time.time(), cards=cards)


def _why_none(wish: str, card: GpuCard | None, uuid: str, cards: tuple[GpuCard, ...]) -> str:
    if card is not None:
        return say("{name} does not answer.", name=card.name)
    if uuid:
        return say("The card that the run computed on does not answer.")
    if wish == CPU:
        return say("The processor was chosen for this run.")
    return say("No card is left by CUDA_VISIBLE_DEVICES.") if cards else say("No NVIDIA card is installed.")


def _sample(card: GpuCard, handle: Any, worker_pid: int | None) -> GpuSample:
    memory = _memory(handle)
    used = memory["used_bytes"]
    running = _processes(handle)
    worker, others = _ours_and_others(running or {}, worker_pid)
    power = _quietly(pynvml.nvmlDeviceGetPowerUsage, handle)
    limit = _quietly(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    utilisation = _quietly(pynvml.nvmlDeviceGetUtilizationRates, handle)
    told = _quietly(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    capability = (int(told[0]), int(told[1])) if told else None
    return GpuSample(
        available=True,
        time=time.time(),
        index=card.index,
        uuid=card.uuid,
        name=card.name,
        driver=_text(_quietly(pynvml.nvmlSystemGetDriverVersion)) or None,
        **memory,
        worker_bytes=worker,
        other_bytes=None if used is None else max(0, used - (worker or 0)),
        others=others,
        others_told=running is not None,
        utilisation_percent=int(utilisation.gpu) if utilisation else None,
        temperature_celsius=_quietly(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        power_watts=None if power is None else power / 1000,
        power_limit_watts=None if limit is None else limit / 1000,
        throttling=_throttling(handle),
        compute_capability=capability,
        unusable=why_unusable(capability, _quietly(pynvml.nvmlSystemGetCudaDriverVersion)),
    )


class _Memory(TypedDict):
    total_bytes: int | None
    used_bytes: int | None
    reserved_bytes: int | None
    free_bytes: int | None


def _memory(handle: Any) -> _Memory:
    """Version 2 of the call tells the driver's own part apart; version 1 counts it as used."""
    second = _quietly(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    memory = second or _quietly(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return {
        "total_bytes": int(memory.total) if memory else None,
        "used_bytes": int(memory.used) if memory else None,
        "reserved_bytes": int(second.reserved) if second else None,
        "free_bytes": int(memory.free) if memory else None,
    }


def _processes(handle: Any) -> dict[int, int | None] | None:
    """Return what each process holds, by its id; None where the driver tells of none at all."""
    asked = (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses)
    answers = [answer for answer in (_quietly(ask, handle) for ask in asked) if answer is not None]
    if not answers:
        return None
    sizes = ((int(process.pid), process.usedGpuMemory) for answer in answers for process in answer)
    return {pid: None if size is None else int(size) for pid, size in sizes}


def _ours_and_others(found: dict[int, int | None], worker_pid: int | None) -> tuple[int | None, tuple[GpuProcess, ...]]:
    """Return what our worker (with its children) holds, and the other programs, the largest first."""
    ours = _family(worker_pid) if worker_pid else set()
    mine = [size for pid, size in found.items() if pid in ours and size is not None]
    others = [GpuProcess(pid, _program(pid), size) for pid, size in found.items() if pid not in ours]
    others.sort(key=lambda process: -(process.used_bytes or 0))
    return (sum(mine) if mine else None), tuple(others)


def _family(pid: int) -> set[int]:
    try:
        return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    except psutil.Error:
        return {pid}


def _program(pid: int) -> str:
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return say("process {pid}", pid=pid)


def _throttling(handle: Any) -> tuple[str, ...] | None:
    bits = _quietly(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if bits is None:
        bits = _quietly(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
    return None if bits is None else tuple(words for bit, words in _THROTTLING.items() if bits & bit)


def _quietly(ask: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the library answers, or None where it does not: old drivers, old cards, laptops asleep."""
    try:
        return ask(*arguments)
    except (pynvml.NVMLError, UnicodeDecodeError, ValueError):
        return None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
