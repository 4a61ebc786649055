"""The report of a dataset as it would be trained, with its lengths in tokens as the window draws them."""

import math
from pathlib import Path
from typing import Any

import numpy
from transformers import PreTrainedTokenizerBase

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.packing import pack
from qlora_studio.core.data.report import Check, DataReport, LengthStatistics, RowCounts, RowSummary, SourceReport
from qlora_studio.core.errors import StudioError
from qlora_studio.core.model.padding import padded_because
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.engine.data.prepared import PreparedData, refusal
from qlora_studio.engine.data.row_files import VERDICTS
from qlora_studio.engine.data.tally import RowTally
from qlora_studio.engine.templates.base_template import template_name
from qlora_studio.storage.models.folder import read_config

_BINS = 48
_QUANTILES = (5, 25, 50, 75, 95, 99, 100)
_KEEPS = (95, 99, 100)


def full_report(
    read: DataReport,
    data: PreparedData,
    config: RunConfig,
    lengths: LengthStatistics | None,
    checks: tuple[Check, ...],
    seconds: float,
    *,
    complete: bool,
) -> DataReport:
    """Return the report with everything that the tokens tell."""
    tally, facts = data.tally, data.facts
    reason = refusal(tally, config)
    changes: dict[str, Any] = {
        "rows": _counts(read, data),
        "sources": tuple(
            source.model_copy(update={**known.model_dump(), **_unread(source, tally, index)})
            for index, (source, known) in enumerate(zip(read.sources, facts.sources, strict=True))
        ),
        "evaluation": facts.evaluation,
        "listing": _listing(read, tally),
        "supported": tally.hidden == 0,
        "reason": _unsupported(tally),
        "mask": facts.mask,
        "template": template_name(data.plan.tokenizer),
        "checks": checks,
        "lengths": lengths,
        "refused": reason.message if reason else "",
        "complete": complete,
        "seconds": seconds,
        "verdicts_path": str(data.folder / VERDICTS),
    }
    return read.model_copy(update=changes)


def _unread(source: SourceReport, tally: RowTally, index: int) -> dict[str, Any]:
    """Return what of a dataset came into no text, most of it first: the template may read what its format does not."""
    counts = tally.unread[index] if index < len(tally.unread) else {}
    unread = dict(sorted(counts.items(), key=lambda item: -item[1]))
    return {"unread": unread, "unused": tuple(name for name in source.columns if name in unread)}


def _counts(read: DataReport, data: PreparedData) -> RowCounts:
    """Return all counts. Duplicates are counted over all datasets together, once their rows are known to be usable."""
    tally, facts = data.tally, data.facts
    together = {"duplicates": tally.duplicates, "near_duplicates": tally.near_duplicates}
    changes = {
        **(together if len(read.sources) > 1 else {}),
        "untrainable": tally.untrainable,
        "excluded": facts.excluded_rows,
        "dropped": facts.dropped_rows,
        "not_drawn": sum(source.not_drawn for source in facts.sources),
        "training": facts.training_rows,
        "evaluation": facts.evaluation_rows,
        "seen": facts.rows_per_epoch,
    }
    return read.rows.model_copy(update=changes)


def _listing(read: DataReport, tally: RowTally) -> tuple[RowSummary, ...]:
    """Return the first rows with their tokens, and the first of each unusual kind, wherever they stand."""
    rows = {row.number: row for row in read.listing if row.verdict == "rejected"}
    for line in tally.listing:
        number = line["number"]
        if number not in rows:
            more = {
                "part": tally.part_of(number),
                "dataset": read.sources[line["source"]].name,
                "duplicate": tally.duplicate_of(number),
                "original": tally.originals.get(str(number)),
            }
            rows[number] = RowSummary(**{**line, **more})
    return tuple(rows[number] for number in sorted(rows))


def _unsupported(tally: RowTally) -> str:
    if not tally.hidden:
        return ""
    return (
        f"The chat template does not show where the answers begin and end in {tally.hidden:,} rows; "
        'they can be trained only with their full text (training.loss_on = "all").'
    )


def padding_reason(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return why the model beside a tokenizer has its rows padded; empty where it has not, or where that is not known.

    A config that says nothing is the model's own trouble, and told where that is loaded.
    """
    try:
        return padded_because(shape_from_config(read_config(Path(tokenizer.name_or_path))))
    except StudioError:
        return ""


def length_statistics(tally: RowTally, config: RunConfig, padded: str = "") -> LengthStatistics | None:
    """Return the lengths of the rows that have an answer, cut off or not; None where there is no such row.

    `padded` is why rows of this model are padded, empty where they lie end to end.

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
        padding_share=_padding_share(training, batch, accumulation, seed),
        packed_padding_share=_padding_share(packs, batch, accumulation, seed),
        row_tokens=int(sequences.max(initial=0)),
        packing=packing,
        packs=len(packs),
        attention_growth=_attention_growth(training, packs, batch, accumulation, seed),
        padded_because=padded,
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


def _on_card(tokens: Any, batch: int, accumulation: int, seed: int) -> tuple[Any, Any]:
    """Return sequences and longest sequence of each batch, drawn and sorted within a step as the trainer does."""
    drawn = numpy.random.default_rng(seed).permutation(numpy.sort(tokens))
    filled = numpy.concatenate((drawn, numpy.zeros(-len(drawn) % (batch * accumulation), dtype=drawn.dtype)))
    steps = -numpy.sort(-filled.reshape(-1, batch * accumulation), axis=1)
    longest = steps.reshape(-1, batch).max(axis=1, initial=0).astype(numpy.float64)
    sequences = (steps.reshape(-1, batch) > 0).sum(axis=1)  # the last step may be smaller
    return sequences, longest


def _padding_share(tokens: Any, batch: int, accumulation: int, seed: int) -> float:
    """Return the share of padding, where each batch is padded to its longest sequence."""
    sequences, longest = _on_card(tokens, batch, accumulation, seed)
    size = float((sequences * longest).sum())
    return 1.0 - float(tokens.sum()) / size if size else 0.0


def _attention_growth(rows: Any, packs: Any, batch: int, accumulation: int, seed: int) -> float:
    """Return how many times as many pairs of tokens attention computes in packs as in the padded rows."""
    padded, packed = (_pairs(part, batch, accumulation, seed) for part in (rows, packs))
    return packed / padded if padded else 1.0


def _pairs(tokens: Any, batch: int, accumulation: int, seed: int) -> float:
    sequences, longest = _on_card(tokens, batch, accumulation, seed)
    return float((sequences * longest**2).sum())
