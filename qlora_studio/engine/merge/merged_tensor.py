"""A tensor of a merge: where its base lies, what an adapter changes of it, and its rows once that is done."""

import math
from dataclasses import dataclass, replace

import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.merge.adapter_change import Change, OpenedChange
from qlora_studio.engine.merge.rounding import rounded
from qlora_studio.engine.merge.safetensors_file import DTYPES, SafetensorsFile, StoredTensor


@dataclass(frozen=True)
class MergedTensor:
    """A tensor of the result. `source` is where its base lies; `dtype` is a safetensors code."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: SafetensorsFile
    source: StoredTensor
    change: Change | None = None

    @property
    def rows(self) -> int:
        """Length of the first dimension; 1 for a scalar."""
        return self.shape[0] if self.shape else 1

    @property
    def size(self) -> int:
        """Bytes."""
        return torch.Size(self.shape).numel() * DTYPES[self.dtype].itemsize

    @property
    def is_copied(self) -> bool:
        """Whether its bytes are the base's own."""
        return self.change is None and self.dtype == self.source.dtype


def fitted(stored: StoredTensor, change: Change) -> tuple[Change, tuple[int, ...]]:
    """Return the change as it fits the tensor as stored, and the result's shape. Raises StudioError."""
    shape = stored.shape
    if change.replacement is not None:
        replaced = change.replacement.shape
        if change.low_rank is not None and replaced == shape:
            change = replace(change, replacement=None)  # the frozen base below an update, kept by peft: same as ours
        shape = replaced
    if change.replacement is not None and (len(shape) != len(stored.shape) or shape[1:] != stored.shape[1:]):
        raise mismatch(
            say(
                "{name} is {shape} in the base and {other} in the adapter.",
                name=stored.name,
                shape=stored.shape,
                other=shape,
            )
        )
    low_rank = change.low_rank
    if low_rank is not None and low_rank.shape != shape:
        low_rank = replace(low_rank, transposed=not low_rank.transposed)
        change = replace(change, low_rank=low_rank)
    if low_rank is not None and low_rank.shape != shape:
        raise mismatch(
            say(
                "{name} is {shape} in the base and {other} in the adapter.",
                name=stored.name,
                shape=shape,
                other=low_rank.shape[::-1],
            )
        )
    if change.addend is not None and change.addend.shape != shape:
        raise mismatch(say("{name} has another length in the adapter.", name=stored.name))
    if change.row_numbers is not None and int(change.row_numbers.max()) >= shape[0]:
        raise mismatch(say("It retrains tokens that {name} does not have.", name=stored.name))
    return change, shape


def finished(tensor: MergedTensor, change: OpenedChange | None, block: torch.Tensor, start: int) -> torch.Tensor:
    """Return rows of a tensor from `start` on, merged, in its dtype. Raises StudioError on NaN or overflow."""
    dtype = DTYPES[tensor.dtype]
    if change is None:
        merged = block.to(dtype)
    else:
        changed = change.apply(block.to(torch.float32, copy=block.dtype == torch.float32), start)
        keeps_little = dtype is torch.bfloat16 and change.replacement is None and changed.dim() > 1
        merged = rounded(changed, block, start) if keeps_little else changed.to(dtype)
    must_be_finite = change is not None or (dtype != block.dtype and _is_finite(block))  # limits may be infinite
    if must_be_finite and not _is_finite(merged):
        raise StudioError(
            say("{name} would hold numbers that are not finite.", name=tensor.name),
            kind=FailureKind.DAMAGED,
            advice=say("The adapter is broken (a NaN in training?), or the weights do not fit into fp16: choose bf16."),
        )
    return merged.contiguous()


def mismatch(why: str) -> StudioError:
    """Return the error of an adapter on a base that it was not trained on."""
    return StudioError(
        say("The adapter was not trained on this base. {why}", why=why),
        kind=FailureKind.FINGERPRINT_MISMATCH,
        advice=say("Choose the base model that the adapter was trained on."),
    )


def _is_finite(block: torch.Tensor) -> bool:
    """Whether every number is finite: one pass, nothing allocated. A NaN is its own minimum and maximum."""
    return not block.numel() or all(math.isfinite(value.item()) for value in block.aminmax())
