"""What a model of a chat takes of the memory that is free, and whether it fits whole or in 4 bits."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from qlora_studio.core.errors import FailureKind, StudioError, advice_for
from qlora_studio.core.memory.resident import weights_bytes
from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say
from qlora_studio.engine.model.free_memory import free_ram
from qlora_studio.storage.models.folder import read_config

_SHARE = 0.8  # of the free memory that weights may take: the rest is for what is computed with them


@dataclass(frozen=True)
class Room:
    """Free memory where a model answers, and what those that are loaded hold of it. Sizes are bytes."""

    free: int
    held: int
    on_card: bool

    def takes(self, size: int, *, alone: bool = False) -> bool:
        """Whether weights of a size fit well: beside what is loaded, or once that is gone."""
        return size <= (self.free + (self.held if alone else 0)) * _SHARE

    def require(self, size: int, what: str) -> None:
        """Raise StudioError where weights of a size cannot fit."""
        if size > self.free + self.held:
            where = "on the card" if self.on_card else "in this computer"
            raise StudioError(
                say(
                    "There is not enough memory for {what}: it takes {size}, and {free} are free {where}.",
                    what=what,
                    size=bytes_text(size),
                    free=bytes_text(self.free + self.held),
                    where=where,
                ),
                kind=FailureKind.OUT_OF_MEMORY,
                advice=advice_for(FailureKind.OUT_OF_MEMORY, "chat"),
            )


def room(held: int, on_card: bool) -> Room:
    """Return the memory that there is now."""
    free = int(torch.cuda.mem_get_info()[0]) if on_card else free_ram()
    return Room(free, held, on_card)


def sizes(folder: Path, dtype: torch.dtype) -> tuple[int, int]:
    """Return what a model's weights take as they are, and with its layers in 4 bits."""
    try:
        shape = shape_from_config(read_config(folder))
    except StudioError:  # of a family whose shape is not known here: by its files
        whole = sum(path.stat().st_size for path in folder.glob("*.safetensors")) // 2 * dtype.itemsize
        return whole, whole // 2
    plain = MemorySetup(quantization="none", weight_bytes=dtype.itemsize)
    return weights_bytes(shape, plain), weights_bytes(shape, replace(plain, quantization="nf4"))
