"""The report of a dataset as it would be trained."""

from typing import Any

from transformers import PreTrainedTokenizerBase

from qlora_studio.core.data.report import DataReport, RowCounts, RowSummary
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.data.checks import checks_of
from qlora_studio.engine.data.length_statistics import length_statistics
from qlora_studio.engine.data.prepared import PreparedData, refusal
from qlora_studio.engine.data.tally import RowTally
from qlora_studio.engine.data.verdict_file import VERDICTS
from qlora_studio.engine.templates.rendering import template_name


def full_report(
    read: DataReport,
    data: PreparedData,
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    seconds: float,
    *,
    complete: bool,
) -> DataReport:
    """Return the report with everything that the tokens tell; without what takes the trainer where not `complete`."""
    tally, facts = data.tally, data.facts
    name = template_name(tokenizer)
    reason = refusal(tally, config)
    lengths = length_statistics(tally, config)
    changes: dict[str, Any] = {
        "rows": _counts(read, data),
        "sources": tuple(
            source.model_copy(update=known.model_dump())
            for source, known in zip(read.sources, facts.sources, strict=True)
        ),
        "evaluation": facts.evaluation,
        "listing": _listing(read, tally),
        "supported": tally.hidden == 0,
        "reason": _unsupported(tally),
        "mask": facts.mask,
        "template": name,
        "checks": checks_of(data, config, tokenizer, name, lengths, with_trainer=complete),
        "lengths": lengths,
        "refused": reason.message if reason else "",
        "complete": complete,
        "seconds": seconds,
        "verdicts_path": str(data.folder / VERDICTS),
    }
    return read.model_copy(update=changes)


def _counts(read: DataReport, data: PreparedData) -> RowCounts:
    """Return all counts. Duplicates are counted over all datasets together, once their rows are known to be usable."""
    tally, facts = data.tally, data.facts
    together = {"duplicates": tally.duplicates, "near_duplicates": tally.near_duplicates}
    changes = {
        **(together if len(read.sources) > 1 else {}),
        "untrainable": tally.untrainable,
        "dropped": facts.dropped_rows,
        "not_drawn": sum(source.not_drawn for source in facts.sources),
        "training": facts.training_rows,
        "evaluation": facts.evaluation_rows,
        "seen": facts.rows_per_epoch,
    }
    return read.rows.model_copy(update=changes)


def _listing(read: DataReport, tally: RowTally) -> tuple[RowSummary, ...]:
    """Return the first rows with their tokens, and the first of each unusual kind, wherever they stand."""
    rows = {row.number: row for row in read.listing}
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
