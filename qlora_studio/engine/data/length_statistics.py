"""Lengths of rows in tokens, as the window draws them: histogram, what a max length would cost, padding, steps."""

import math
from typing import Any

import numpy

from qlora_studio.core.data.report import LengthStatistics
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.data.packing import pack
from qlora_studio.engine.data.tally import RowTally

_BINS = 48
_QUANTILES = (5, 25, 50, 75, 95, 99, 100)
_KEEPS = (95, 99, 100)


def length_statistics(tally: RowTally, config: RunConfig) -> LengthStatistics | None:
    """Return the lengths of the rows that have an answer, cut off or not; None where there is no such row.

    What packing comes to is told of the packs that are trained, or would be: they depend on the lengths alone.
    """
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
    packing, seed = config.training.packing, config.training.seed
    batch, accumulation = config.training.batch_size, config.training.gradient_accumulation
    packs = pack(training, limit, seed).lengths
    sequences = packs if packing else training
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
        steps_per_epoch=math.ceil(math.ceil(sequences.size / batch) / accumulation),
        padding_share=_padding_share(training, batch, seed),
        packed_padding_share=_padding_share(packs, batch, seed),
        row_tokens=int(sequences.max(initial=0)),
        packing=packing,
        packs=len(packs),
        attention_growth=_attention_growth(training, packs, batch, seed),
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


def _on_card(tokens: Any, batch: int, seed: int) -> tuple[Any, Any]:
    """Return sequences and longest sequence of each batch, drawn at random as the trainer draws them."""
    drawn = numpy.random.default_rng(seed).permutation(numpy.sort(tokens))
    filled = numpy.concatenate((drawn, numpy.zeros(-len(drawn) % batch, dtype=drawn.dtype))).reshape(-1, batch)
    sequences = numpy.full(len(filled), batch)
    sequences[-1:] = len(drawn) - batch * (len(filled) - 1)  # the last batch may be smaller
    return sequences, filled.max(axis=1, initial=0).astype(numpy.float64)


def _padding_share(tokens: Any, batch: int, seed: int) -> float:
    """Return the share of padding, where each batch is padded to its longest sequence."""
    sequences, longest = _on_card(tokens, batch, seed)
    size = float((sequences * longest).sum())
    return 1.0 - float(tokens.sum()) / size if size else 0.0


def _attention_growth(rows: Any, packs: Any, batch: int, seed: int) -> float:
    """Return how many times as many pairs of tokens attention computes in packs as in the padded rows."""
    padded, packed = (_pairs(part, batch, seed) for part in (rows, packs))
    return packed / padded if padded else 1.0


def _pairs(tokens: Any, batch: int, seed: int) -> float:
    sequences, longest = _on_card(tokens, batch, seed)
    return float((sequences * longest**2).sum())
