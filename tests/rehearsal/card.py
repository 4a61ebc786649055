"""The Python half of the card: torch.cuda's own Python runs, and what it asks of C is answered here.

REHEARSAL_CARDS names the file that says which cards there are, the same that nvml.c reads. CUDA_VISIBLE_DEVICES chooses
among them by UUID, as CUDA does. REHEARSAL_BYTES is how much of a card's free memory tensors get: on a real one,
what CUDA holds for itself and what lies in gaps is lost to them.
"""

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

CUDA = "13.0"  # that torch says it was built with
_ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")  # of torch's wheels for CUDA 13
_OLDEST = (7, 5)


@dataclass
class CardRecord:
    """A card as the file tells of it: NVML's figures by their names."""

    name: str
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def capability(self) -> tuple[int, int]:
        major, _, minor = self.facts["capability"].partition(".")
        return int(major), int(minor)

    @property
    def total(self) -> int:
        return int(self.facts["total"])

    @property
    def free(self) -> int:
        return self.total - int(self.facts["reserved"]) - int(self.facts["used"])


def load_library() -> None:
    """Load the card into the process, before torch is: it is linked to the same libraries."""
    ctypes.CDLL(os.environ["REHEARSAL_LIBRARY"], ctypes.RTLD_GLOBAL)


def put_in() -> None:
    """Give the torch that was just imported the cards that are visible."""
    import torch

    from tests.rehearsal import bitsandbytes_library, flash_attention

    machine, cards = _read(Path(os.environ["REHEARSAL_CARDS"]))
    driver = int(machine["cuda"])
    cards = _visible(cards) if driver >= 13000 else []
    generators = tuple(torch.Generator() for _ in cards)
    for card, generator in zip(cards, generators, strict=True):
        torch.ops.rehearsal.add_card(_obtainable(card), generator, _broken(card))
    choose = torch.ops.rehearsal.choose_card
    _replace(torch.version, cuda=CUDA)
    _replace(
        torch.cuda,
        default_generators=generators,
        _cudart=SimpleNamespace(cudaMemGetInfo=lambda index: _memory_info(index, cards[index])),
        _get_device_properties=lambda index: _properties(cards[index]),
        **dict.fromkeys(("_exchange_device", "_maybe_exchange_device"), choose),
        **dict.fromkeys(("Stream", "current_stream", "default_stream"), _Stream),
        Event=_Event,
    )
    _replace(torch._C, _has_cuda=True, **_answers(len(cards), driver))
    _replace(torch.UntypedStorage, __new__=_storage_anywhere(torch.UntypedStorage.__new__))
    bitsandbytes_library.offer()
    flash_attention.offer()


def _read(path: Path) -> tuple[dict[str, str], list[CardRecord]]:
    machine: dict[str, str] = {}
    cards: list[CardRecord] = []
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == "card":
            cards.append(CardRecord(value))
        else:
            (cards[-1].facts if cards else machine)[key] = value
    return machine, cards


def _visible(cards: list[CardRecord]) -> list[CardRecord]:
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        return cards
    named = [name.strip() for name in told.split(",")]
    return [card for name in named for i, card in enumerate(cards) if name and name in (str(i), card.facts["uuid"])]


def _obtainable(card: CardRecord) -> int:
    return min(card.free, int(os.environ.get("REHEARSAL_BYTES", card.free)))


def _broken(card: CardRecord) -> str:
    if "lost" in card.facts:
        return "unspecified launch failure"
    return "" if card.capability >= _OLDEST else "no kernel image is available for execution on the device"


def _properties(card: CardRecord) -> SimpleNamespace:
    return SimpleNamespace(
        name=card.name,
        major=card.capability[0],
        minor=card.capability[1],
        total_memory=card.total,
        uuid=card.facts["uuid"].removeprefix("GPU-"),
        multi_processor_count=128,
        warp_size=32,
        max_threads_per_multi_processor=1536,
        shared_memory_per_block_optin=101376,
        regs_per_multiprocessor=65536,
        L2_cache_size=75497472,
        gcnArchName="",
        is_integrated=0,
    )


def _storage_anywhere(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes storage on a card too, which C refuses in a build for the processor."""
    import torch

    def new(cls: Any, *size: Any, device: Any = None, **more: Any) -> Any:
        if device is None or torch.device(device).type != "cuda":
            return make(cls, *size, device=device, **more)
        return torch.empty(*size, dtype=torch.uint8, device=device).untyped_storage()

    return new


def _answers(count: int, driver: int) -> dict[str, Any]:
    """Return what torch.cuda asks of C."""
    import torch

    card = torch.ops.rehearsal

    def init() -> None:
        if not count:
            old = f"The NVIDIA driver on your system is too old (found version {driver})."
            raise RuntimeError(old if driver < 13000 else "No CUDA GPUs are available")

    answers = {
        "init": init,
        "getDeviceCount": lambda: count,
        "getDevice": card.current_card,
        "setDevice": card.choose_card,
        "exchangeDevice": card.choose_card,
        "maybeExchangeDevice": card.choose_card,
        "getArchFlags": lambda: " ".join(_ARCHITECTURES),
        "getCompiledVersion": lambda: 13000,
        "getDriverVersion": lambda: driver,
        "synchronize": card.synchronize,
        "emptyCache": lambda: None,
        "memoryStats": _memory_stats,
        "resetPeakMemoryStats": card.forget_peak,
        "getCurrentRawStream": lambda index: 0,
        "isCurrentStreamCapturing": lambda: False,
        "ipc_collect": lambda: None,
    }
    return {f"_cuda_{name}": answer for name, answer in answers.items()}


def _memory_stats(index: int) -> dict[str, Any]:
    """What is reserved is what is allocated: there is no pool."""
    import torch

    _, allocated, peak = torch.ops.rehearsal.memory(index)
    pool = {"all": {"current": allocated, "peak": peak}}
    return {
        "allocated_bytes": pool,
        "reserved_bytes": pool,
        "active_bytes": pool,
        "num_ooms": 0,
        "num_alloc_retries": 0,
    }


def _memory_info(index: int, card: CardRecord) -> tuple[int, int]:
    import torch

    _, allocated, _ = torch.ops.rehearsal.memory(index)
    return card.free - allocated, card.total


class _Stream:
    """The only stream there is: everything is done in the order in which it is asked."""

    def __init__(self, *_args: Any) -> None:
        import torch

        self.device = torch.device("cuda", torch.cuda.current_device())

    def synchronize(self) -> None:
        import torch

        torch.cuda.synchronize()


class _Event:
    """Something that has happened already."""

    def __init__(self, *_args: Any, **_more: Any) -> None: ...

    def record(self, *_args: Any) -> None: ...

    def synchronize(self) -> None: ...


def _replace(owner: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(owner, name, value)
