"""The report of a dataset as it would be trained."""

from collections import Counter
from typing import Any

from transformers import PreTrainedTokenizerBase

from qlora_studio.core.data_report import DataReport, RowSummary
from qlora_studio.core.run_config import RunConfig
from qlora_studio.engine.data_checks import checks_of
from qlora_studio.engine.length_statistics import length_statistics
from qlora_studio.engine.prepared_data import PreparedData, refusal
from qlora_studio.engine.rendering import template_name
from qlora_studio.engine.row_tally import PARTS, RowTally


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
    tally = data.tally
    name = template_name(tokenizer)
    reason = refusal(tally, config)
    counts = Counter(PARTS[part] for part in tally.part.tolist())
    changes: dict[str, Any] = {
        "rows": read.rows.model_copy(
            update={
                "untrainable": tally.untrainable,
                "training": len(data.training),
                "evaluation": len(data.evaluation) if data.evaluation is not None else counts["evaluation"],
            }
        ),
        "listing": _listing(read, tally),
        "supported": tally.hidden == 0,
        "reason": _unsupported(tally),
        "mask": data.facts.mask,
        "template": name,
        "checks": checks_of(data, config, tokenizer, name, with_trainer=complete),
        "lengths": length_statistics(tally, config),
        "refused": reason.message if reason else "",
        "complete": complete,
        "seconds": seconds,
        "verdicts_path": str(data.folder / "verdicts.jsonl"),
    }
    return read.model_copy(update=changes)


def _listing(read: DataReport, tally: RowTally) -> tuple[RowSummary, ...]:
    """Return the first rows of the file with their tokens, and the first rejected ones, wherever they stand."""
    rows = {row.number: row for row in read.listing}
    for line in tally.listing:
        if line["number"] not in rows:
            rows[line["number"]] = RowSummary(**{**line, "part": tally.part_of(line["number"])})
    return tuple(rows[number] for number in sorted(rows))


def _unsupported(tally: RowTally) -> str:
    if not tally.hidden:
        return ""
    return (
        f"The chat template does not show where the answers begin and end in {tally.hidden:,} rows; "
        'they can be trained only with their full text (training.loss_on = "all").'
    )
