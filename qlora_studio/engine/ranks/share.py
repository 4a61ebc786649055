"""Which part of a base a rank keeps, where the ranks share it out."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer


@dataclass(frozen=True)
class Share:
    """The part of one of several ranks, or the whole of one that is alone."""

    rank: int = 0
    count: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether nothing is cut."""
        return self.count == 1

    def of(self, packed: torch.Tensor) -> torch.Tensor:
        """Return the own rows of a packed weight (bytes, 1), cut as FSDP2 cuts them; the last ranks may get fewer."""
        if self.is_whole:
            return packed
        rows = -(-packed.shape[0] // self.count)
        return packed[self.rank * rows : (self.rank + 1) * rows].clone()


WHOLE = Share()


def decoder_layers(model: Any) -> dict[str, GradientCheckpointingLayer]:
    """Return the decoder layers of a model by their names: those whose weights are cut."""
    return {name: module for name, module in model.named_modules() if isinstance(module, GradientCheckpointingLayer)}
