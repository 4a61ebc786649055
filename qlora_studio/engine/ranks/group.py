"""What the ranks of a run do together: they deal a step's batches out, and add up what each has found.

Each rank runs the whole trainer, draws the same rows in the same order, and trains its share of a step's batches. The
loss of every batch is divided by the trained tokens of the whole step, so that the sum of all gradients is the one that
a single process would have. torch's DistributedDataParallel is not used: it wants as many batches on each rank, in
which rows that lie end to end do not come, and averages where a sum is right.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch

from qlora_studio.engine.ranks.meeting import Meeting
from qlora_studio.engine.ranks.share import WHOLE, Share

BUCKET = 8 << 20  # numbers that travel together: 32 MiB, which is what this takes of a card
_FOR_EVER = timedelta(days=30)  # who waits is told by the ranks' own processes that one is gone, not by a clock
_POLL_SECONDS = 0.002
_QUICK_POLLS, _QUICK_SECONDS = 100, 0.0001


class Ranks:
    """The ranks of a run, as one of them sees it. `look` raises where another one is gone."""

    def __init__(self, rank: int = 0, count: int = 1, look: Callable[[], None] = lambda: None) -> None:
        self.rank, self.count = rank, count
        self._look = look
        self.share = WHOLE  # what this rank keeps of the base
        self._on_card = False  # whether cards speak to each other, or the processor for them

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    @property
    def is_first(self) -> bool:
        """Whether this is the run's worker, which alone tells and writes."""
        return self.rank == 0

    @property
    def shares_base(self) -> bool:
        """Whether no rank has the whole base: all of them must then go through it together, each time."""
        return not self.share.is_whole

    def share_base(self) -> None:
        """Have each rank keep its part of the base alone."""
        self.share = Share(self.rank, self.count)

    def meet(self, meeting: Meeting, *, on_card: bool) -> None:
        """Come together with the others."""
        distributed = torch.distributed
        os.environ.update(meeting.environment)
        self._on_card = on_card and distributed.is_nccl_available()
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if self._on_card else "gloo",
            rank=self.rank,
            world_size=self.count,
            timeout=_FOR_EVER,
            **meeting.arguments,
        )

    def part(self) -> None:
        """Go apart: nothing is open between the ranks any more."""
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def own(self, items: Sequence[Any]) -> list[Any]:
        """Return this rank's share: every n-th, so that what is sorted by size is dealt evenly."""
        return list(items[self.rank :: self.count])

    def totals(self, *numbers: float) -> list[float]:
        """Return the sum of each number over all ranks."""
        if not self.several:
            return list(numbers)
        return self._added(torch.tensor(numbers, dtype=torch.float64)).tolist()

    def most(self, number: int) -> int:
        """Return the largest of the ranks' numbers."""
        return int(max(self.totals(*(number * float(rank == self.rank) for rank in range(self.count)))))

    def told_by_first(self, numbers: Sequence[int]) -> list[int]:
        """Return what the first rank says; what another one says counts for nothing."""
        return [int(total) for total in self.totals(*(numbers if self.is_first else [0] * len(numbers)))]

    def copy_from_first(self, parameters: Iterable[Any]) -> None:
        """Give every rank the first one's values."""
        for parameter in parameters:
            parameter.data.copy_(self._added(parameter.data.float().mul(float(self.is_first))))

    def add_gradients(self, parameters: Iterable[Any]) -> None:
        """Give every rank the sum of all gradients; a parameter that none of them used keeps none.

        The sum is in fp32 whatever the gradients are in, of some parameters after another.
        """
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        used = self.totals(*(float(parameter.grad is not None) for parameter in trained))
        for bucket in _buckets([parameter for parameter, ranks in zip(trained, used, strict=True) if ranks]):
            flat = self._added(torch.cat([_gradient(parameter).reshape(-1).float() for parameter in bucket]))
            for parameter, part in zip(bucket, flat.split([item.numel() for item in bucket]), strict=True):
                total = part.view_as(parameter).to(parameter.dtype)
                parameter.grad = total.clone() if parameter.grad is None else parameter.grad.copy_(total)

    def _added(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum over all ranks, the same bits in each."""
        there = (tensor if self._on_card else tensor.cpu()).contiguous()
        work = torch.distributed.all_reduce(there, async_op=True)
        self._wait(work)
        return there.to(tensor.device)

    def _wait(self, work: Any) -> None:
        """Wait as long as the others live; a plain `wait` would not notice that a rank with a card is gone."""
        polls = 0
        while not work.is_completed():
            self._look()
            polls += 1
            time.sleep(_QUICK_SECONDS if polls < _QUICK_POLLS else _POLL_SECONDS)
        work.wait()


ALONE = Ranks()


def _gradient(parameter: Any) -> torch.Tensor:
    gradient: torch.Tensor = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return gradient


def _buckets(parameters: Sequence[Any]) -> Iterator[list[Any]]:
    bucket: list[Any] = []
    for parameter in parameters:
        if bucket and sum(item.numel() for item in bucket) + parameter.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
