"""Lengths of rows in tokens, as the window draws them: histogram, what a max length would cost, padding, steps."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy

from qlora_studio.core.data_report import LengthStatistics
from qlora_studio.core.run_config import RunConfig
from qlora_studio.engine.row_tally import RowTally

_BINS = 48
_QUANTILES = (5, 25, 50, 75, 95, 99, 100)
_KEEPS = (95, 99, 100)


def length_statistics(tally: RowTally, config: RunConfig) -> LengthStatistics | None:
    """Return the lengths of the rows that have an answer, cut off or not; None where there is no such row."""
    answered = tally.column("trained") > 0
    tokens = tally.column("tokens")[answered]
    if not tokens.size:
        return None
    limit = config.training.max_length
    trained, kept = int(tally.column("trained").sum()), int(tally.column("kept").sum())
    by_position = tally.trained_by_position()
    beyond = trained - numpy.concatenate(([0], numpy.cumsum(by_position)))  # trained tokens at a position or later
    edges = _edges(int(tokens.max()))
    training = numpy.repeat(numpy.minimum(tally.column("tokens"), limit), tally.copies)
    batch, accumulation = config.training.batch_size, config.training.gradient_accumulation
    return LengthStatistics(
        rows=int(tokens.size),
        max_length=limit,
        longest=int(tokens.max()),
        shortest=int(tokens.min()),
        total_tokens=int(tokens.sum()),
        trained_tokens=trained,
        edges=tuple(edges),
        counts=tuple(int(count) for count in numpy.histogram(tokens, bins=edges)[0]),
        rows_beyond=tuple(int((tokens > edge).sum()) for edge in edges),
        trained_beyond=tuple(int(beyond[min(edge, len(beyond) - 1)]) for edge in edges),
        quantiles={str(part): int(numpy.percentile(tokens, part, method="higher")) for part in _QUANTILES},
        keeps={str(part): _length_that_keeps(by_position, trained, part) for part in _KEEPS},
        cut_rows=int((tokens > limit).sum()),
        lost_tokens=trained - kept,
        lost_share=(trained - kept) / trained,
        tokens_per_epoch=int(training.sum()),
        steps_per_epoch=math.ceil(math.ceil(training.size / batch) / accumulation),
        padding_share=_padding_share(training, batch, config.training.seed),
        packed_padding_share=_packed_padding_share(Counter(training.tolist()).items(), limit),
        row_tokens=int(training.max(initial=0)),
    )


def _edges(longest: int) -> list[int]:
    """Return edges of bins of one round width, the last beyond `longest`."""
    rough = (longest + 1) / _BINS
    unit = 10 ** max(0, math.floor(math.log10(max(rough, 1))))
    width = next(unit * step for step in (1, 2, 5, 10) if unit * step >= rough)
    return list(range(0, longest + width + 1, width))


def _length_that_keeps(by_position: Any, trained: int, percent: int) -> int:
    """Return the shortest length that keeps so many percent of the trained tokens."""
    wanted = math.ceil(trained * percent / 100)
    return int(numpy.searchsorted(numpy.cumsum(by_position), wanted)) + 1


def _padding_share(tokens: Any, batch: int, seed: int) -> float:
    """Return the share of padding in batches drawn at random, as the trainer draws them."""
    if not tokens.size:
        return 0.0
    drawn = numpy.random.default_rng(seed).permutation(tokens)
    filled = numpy.concatenate((drawn, numpy.zeros(-len(drawn) % batch, dtype=drawn.dtype))).reshape(-1, batch)
    last = len(drawn) - batch * (len(filled) - 1)  # the last batch may be smaller
    sizes = filled.max(axis=1) * numpy.array([batch] * (len(filled) - 1) + [last])
    return 1.0 - float(tokens.sum()) / float(sizes.sum())


def _packed_padding_share(counts: Iterable[tuple[int, int]], limit: int) -> float:
    """Return the share of padding when rows are packed best fit, longest first, into sequences of `limit` tokens."""
    free: Counter[int] = Counter()
    room: list[int] = []  # the sorted keys of `free` that count
    total = sequences = 0
    for length, count in sorted(counts, reverse=True):
        total += length * count
        while count:
            index = bisect_left(room, length)
            if index == len(room):  # a new sequence takes as many as fit
                size, found = limit, math.ceil(count / max(1, limit // length))
                sequences += found
            else:
                size, found = room[index], min(free[room[index]], math.ceil(count / max(1, room[index] // length)))
                free[size] -= found
                if not free[size]:
                    del free[size]
                    room.pop(index)
            count = _fill(free, room, size, found, length, count)
    return 1.0 - total / (sequences * limit) if sequences else 0.0


def _fill(free: Counter[int], room: list[int], size: int, found: int, length: int, count: int) -> int:
    """Put up to `count` rows of one length into `found` sequences with `size` free tokens each; return what is left."""
    each = size // length
    whole = min(found, count // each)
    left = count - whole * each
    parts = [(size - each * length, whole)]
    if found > whole:  # the last is filled in part
        parts.append((size - left * length, 1))
        left = 0
    for rest, number in parts:
        if rest and number:
            if rest not in free:
                room.insert(bisect_left(room, rest), rest)
            free[rest] += number
    return left
