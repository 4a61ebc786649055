"""What is done to one tensor of a base: replaced, updated by a product of low rank, shifted, single rows replaced.

A plan, not the numbers: an adapter's tensors stay in its file, in their own dtype, until the tensor that they change is
made. The arithmetic is peft's own, in fp32 and in its order of operations, by rows: a merge gives what
`merge_and_unload` gives.
"""

from dataclasses import dataclass

import torch

from qlora_studio.engine.merge.safetensors_file import SafetensorsFile, StoredTensor


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


@dataclass
class Change:
    """Everything that happens to one tensor, in this order: replaced, updated, shifted, single rows replaced."""

    replacement: AdapterTensor | None = None
    low_rank: LowRank | None = None
    addend: AdapterTensor | None = None
    addend_scale: float = 1.0
    row_numbers: torch.Tensor | None = None
    row_values: AdapterTensor | None = None

    def opened(self) -> "OpenedChange":
        """Return the change with what it needs in memory, for as long as one tensor is made."""
        return OpenedChange(
            self.replacement,
            self.low_rank.opened() if self.low_rank else None,
            self.addend.whole() * self.addend_scale if self.addend else None,
            self.row_numbers,
            self.row_values.whole() if self.row_values else None,
        )


@dataclass(frozen=True)
class OpenedChange:
    """A change that can be applied. A replacement is as large as the tensor: it is still read by rows."""

    replacement: AdapterTensor | None
    update: "_Update | None"
    addend: torch.Tensor | None
    row_numbers: torch.Tensor | None
    row_values: torch.Tensor | None

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
        return rows


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
        delta = (self.b @ self.a[:, start:stop]).T if self.transposed else self.b[start:stop] @ self.a
        merged = rows.add_(delta if self.scale == 1.0 else delta.mul_(self.scale))
        if self.magnitude is None:
            return merged
        if self.transposed:
            factor: torch.Tensor = (self.magnitude / torch.linalg.norm(merged.T, dim=1)).view(1, -1)
        else:
            factor = (self.magnitude[start:stop] / torch.linalg.norm(merged, dim=1)).view(-1, 1)
        return factor * merged
