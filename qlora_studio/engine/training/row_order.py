"""In which order rows are trained and measured, so that little is padding and batches are of a size.

The loss of a step is the mean over all its trained tokens, so how its rows are split into batches changes nothing but
the padding. Which rows make a step stays with the sampler, and with it where a resumed run goes on.
"""

from collections.abc import Iterator
from typing import Any

from accelerate.data_loader import SeedableRandomSampler  # type: ignore[import-untyped]
from torch.utils.data import Sampler

from qlora_studio.engine.data.row_files import row_lengths


class SortedSteps(Sampler[int]):
    """The rows of a random order, those of each optimizer step with the longest first.

    The longest first, as memory that is lacking is then missed at once, before gradients are held.
    """

    def __init__(self, dataset: Any, arguments: Any) -> None:
        # The order that accelerate puts in place of torch's: runs that began before are resumed with it.
        self._order = SeedableRandomSampler(dataset, data_seed=arguments.data_seed)
        self._lengths = row_lengths(dataset)
        self._rows_in_step = arguments.train_batch_size * arguments.gradient_accumulation_steps

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[int]:
        order = list(self._order)
        for start in range(0, len(order), self._rows_in_step):
            yield from sorted(order[start : start + self._rows_in_step], key=lambda row: -self._lengths[row])

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of an epoch."""
        self._order.set_epoch(epoch)


class EvenSteps(SortedSteps):
    """The rows of each optimizer step dealt to its batches so that all have about as many tokens: nothing is padded.

    The longest is given to the batch with the fewest tokens that has a row to come.
    """

    def __init__(self, dataset: Any, arguments: Any) -> None:
        super().__init__(dataset, arguments)
        self._batch = arguments.train_batch_size

    def __iter__(self) -> Iterator[int]:
        rows = list(super().__iter__())
        for start in range(0, len(rows), self._rows_in_step):
            for batch in self._dealt(rows[start : start + self._rows_in_step]):
                yield from batch

    def _dealt(self, rows: list[int]) -> list[list[int]]:
        """Return the rows of a step in batches, all of them full but the last."""
        batches: list[list[int]] = [[] for _ in range(0, len(rows), self._batch)]
        places = [min(self._batch, len(rows) - start) for start in range(0, len(rows), self._batch)]
        tokens = [0] * len(batches)
        for row in rows:
            chosen = min((i for i, batch in enumerate(batches) if len(batch) < places[i]), key=lambda i: tokens[i])
            batches[chosen].append(row)
            tokens[chosen] += int(self._lengths[row])
        return batches


class ByLength(Sampler[int]):
    """All rows, the longest first: for a mean over all of them, such as the held-out loss."""

    def __init__(self, dataset: Any) -> None:
        self._order: list[int] = (-row_lengths(dataset)).argsort(kind="stable").tolist()

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[int]:
        return iter(self._order)
