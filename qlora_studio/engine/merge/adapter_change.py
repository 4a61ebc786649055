"""What is done to one tensor of a base: replaced, updated by a product of low rank, shifted, single rows replaced.

Where files hold a tensor in other pieces than memory does, each piece has its part of the change.

A plan, not the numbers: an adapter's tensors stay in its file, in their own dtype, until the tensor that they change is
made. The arithmetic is peft's own, in fp32 and in its order of operations, by rows: a merge gives what
`merge_and_unload` gives, where rounding leaves that of the change (see `rounding`).
"""

from dataclasses import dataclass, field
from functools import lru_cache

import torch

from qlora_studio.engine.merge.conversion import Block
from qlora_studio.engine.merge.safetensors_file import SafetensorsFile, StoredTensor

Places = slice | torch.Tensor  # which rows or columns


@dataclass(frozen=True)
class AdapterTensor:
    """A tensor in an adapter's file: read when it is needed, in its own dtype there and in fp32 here."""

    file: SafetensorsFile
    stored: StoredTensor

    @property
    def shape(self) -> tuple[int, ...]:
        """As stored."""
        return self.stored.shape

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Return rows start..stop in fp32, in memory of their own."""
        with self.file.path.open("rb") as file:
            return self.file.read_rows(file, self.stored, start, stop).float()

    def whole(self) -> torch.Tensor:
        """Return all of it in fp32."""
        return self.rows(0, self.stored.rows)


@dataclass(frozen=True)
class LowRank:
    """scale · B A. A: (rank, in), B: (out, rank); magnitude (DoRA): (out,) or None.

    `transposed` where the tensor is stored as (in, out): embeddings, and GPT-2's Conv1D.
    """

    a: AdapterTensor
    b: AdapterTensor
    scale: float
    magnitude: AdapterTensor | None = None
    transposed: bool = False

    @property
    def needs_whole(self) -> bool:
        """Whether rows cannot be merged one block after another: DoRA's norm runs over all of them."""
        return self.magnitude is not None and self.transposed

    @property
    def shape(self) -> tuple[int, int]:
        """Of the tensor as stored."""
        out, inside = self.b.shape[0], self.a.shape[1]
        return (inside, out) if self.transposed else (out, inside)

    def opened(self) -> "_Update":
        """Return it ready to be applied: A, B and magnitude in memory, in fp32."""
        magnitude = self.magnitude.whole() if self.magnitude else None
        return _Update(self.a.whole(), self.b.whole(), self.scale, magnitude, self.transposed)


@dataclass(frozen=True)
class StackedLowRank:
    """scale · B A for each expert of a stack. A: (experts · rank, in), B: (out, rank · experts), as peft lays them.

    `inputs_first`: the stack is (experts, in, out), else (experts, out, in).
    """

    a: AdapterTensor
    b: AdapterTensor
    scale: float
    experts: int
    inputs_first: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the stack."""
        out, inside = self.b.shape[0], self.a.shape[1]
        return (self.experts, inside, out) if self.inputs_first else (self.experts, out, inside)

    def delta(self, places: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return what is added at these indices of the stack, fp32: one for each of its dimensions."""
        experts, rows, columns = places
        if self.inputs_first:
            rows, columns = columns, rows
        halves = [self.halves(number) for number in experts.tolist()]
        parts = [b[rows] @ a[:, columns] for a, b in halves]
        delta = torch.stack(parts).mul_(self.scale)
        return delta.transpose(1, 2) if self.inputs_first else delta

    def halves(self, expert: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A (rank, in) and B (out, rank) of one expert, fp32."""
        rank = self.a.shape[0] // self.experts
        b = _recent(self.b).view(self.b.shape[0], rank, self.experts)
        return self.a.rows(expert * rank, (expert + 1) * rank), b[:, :, expert]


@dataclass(frozen=True)
class Part:
    """What changes a tensor in a file because it is a `block` of one in memory that is changed."""

    block: Block
    change: "Change"


@dataclass
class Change:
    """Everything that happens to one tensor, in this order: replaced, updated, shifted, single rows replaced.

    `parts` are of a tensor in a file that transformers computes with: of several in memory, or of a part of one.
    """

    replacement: AdapterTensor | None = None
    low_rank: LowRank | None = None
    stacked: StackedLowRank | None = None
    addend: AdapterTensor | None = None
    addend_scale: float = 1.0
    row_numbers: torch.Tensor | None = None
    row_values: AdapterTensor | None = None
    parts: list[Part] = field(default_factory=list)

    def opened(self) -> "OpenedChange":
        """Return the change with what it needs in memory, for as long as one tensor is made."""
        return OpenedChange(
            self.replacement,
            self.low_rank.opened() if self.low_rank else None,
            self.addend.whole() * self.addend_scale if self.addend else None,
            self.row_numbers,
            self.row_values.whole() if self.row_values else None,
            [_OpenedPart(part.block, part.change.stacked, part.change.opened()) for part in self.parts],
        )


@dataclass(frozen=True)
class OpenedChange:
    """A change that can be applied. A replacement is as large as the tensor: it is still read by rows."""

    replacement: AdapterTensor | None
    update: "_Update | None"
    addend: torch.Tensor | None
    row_numbers: torch.Tensor | None
    row_values: torch.Tensor | None
    parts: "list[_OpenedPart]"

    def apply(self, rows: torch.Tensor, start: int) -> torch.Tensor:
        """Return rows start.. of the tensor, fp32, after the change. `rows` is used up."""
        if self.replacement is not None:
            rows = self.replacement.rows(start, start + rows.shape[0])
        if self.update is not None:
            rows = self.update.apply(rows, start)
        if self.addend is not None:
            rows = rows + self.addend[start : start + rows.shape[0]]
        if self.row_numbers is not None and self.row_values is not None:
            here = (self.row_numbers >= start) & (self.row_numbers < start + rows.shape[0])
            rows[self.row_numbers[here] - start] = self.row_values[here]
        for part in self.parts:
            part.apply(rows, start)
        return rows


@dataclass(frozen=True)
class _OpenedPart:
    """A part of a tensor in memory, ready to be changed where it lies in a file's rows."""

    block: Block
    stacked: StackedLowRank | None
    change: OpenedChange

    def apply(self, rows: torch.Tensor, start: int) -> None:
        """Change, in place, what of the part lies in a file's rows start.. ."""
        block = self.block.within(start, start + rows.shape[0])
        index = _index(block, start)
        rows[index] = self._changed(rows[index], block.places)

    def _changed(self, numbers: torch.Tensor, places: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return numbers, as they lie in memory at these places, after the change."""
        if not numbers.numel():
            return numbers
        change = self.change
        if change.replacement is not None:
            first, last = int(places[0].min()), int(places[0].max())
            inside = torch.meshgrid(places[0] - first, *places[1:], indexing="ij")
            numbers = change.replacement.rows(first, last + 1)[inside]
        if change.update is not None:
            numbers = change.update.merged(numbers, *places)
        if self.stacked is not None:
            numbers = numbers + self.stacked.delta(places)
        return numbers if change.addend is None else numbers + change.addend[places[0]]


def _index(block: Block, start: int) -> tuple[torch.Tensor, ...]:
    """Return the indices, by a file's dimension, that give its rows start.. the dimensions that they have in memory."""
    found: dict[int, torch.Tensor] = {}
    for dim, (axis, source) in enumerate(zip(block.axes, block.sources, strict=True)):
        if axis is not None:
            shape = [-1 if other == dim else 1 for other in range(len(block.axes))]
            found[axis] = (source - start if axis == 0 else source).reshape(shape)
    return tuple(found[axis] for axis in sorted(found))


@lru_cache(maxsize=4)  # the experts of a layer, each with a tensor of its own in the files, follow one another
def _recent(tensor: AdapterTensor) -> torch.Tensor:
    return tensor.whole()


@dataclass(frozen=True)
class _Update:
    """A `LowRank` in memory, fp32."""

    a: torch.Tensor
    b: torch.Tensor
    scale: float
    magnitude: torch.Tensor | None
    transposed: bool

    def apply(self, rows: torch.Tensor, start: int) -> torch.Tensor:
        """Return rows start.. of the tensor, fp32, with the update. `rows` is used up."""
        stop = start + rows.shape[0]
        return self.merged(rows, slice(start, stop), slice(None))

    def merged(self, rows: torch.Tensor, places: Places, columns: Places) -> torch.Tensor:
        """Return a part of the tensor, fp32, with the update: all of each row where there is a magnitude."""
        delta = (self.b[columns] @ self.a[:, places]).T if self.transposed else self.b[places] @ self.a[:, columns]
        merged = rows.add_(delta if self.scale == 1.0 else delta.mul_(self.scale))
        if self.magnitude is None:
            return merged
        if self.transposed:
            factor: torch.Tensor = (self.magnitude / torch.linalg.norm(merged.T, dim=1)).view(1, -1)
        else:
            factor = (self.magnitude[places] / torch.linalg.norm(merged, dim=1)).view(-1, 1)
        return factor * merged
