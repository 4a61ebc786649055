"""What a run records of its prepared rows: all of them together, and dataset by dataset."""

from typing import Any

import numpy

from qlora_studio.core.data.source_facts import EvaluationFacts, SourceFacts
from qlora_studio.core.run.events import DatasetPrepared
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.data.opened import OpenedData
from qlora_studio.engine.data.tally import RowTally
from qlora_studio.engine.templates.rendering import HOW_WORDS
from qlora_studio.storage.datasets.reader import DatasetReader


def facts_of(tally: RowTally, config: RunConfig, opened: OpenedData) -> DatasetPrepared:
    """Return the facts of a run. Tokens are those of the training rows of an epoch, after the cut."""
    training = tally.mine("training")
    lengths = numpy.minimum(tally.column("tokens"), config.training.max_length)
    own = opened.evaluation
    return DatasetPrepared(
        training_rows=int(training.sum()),
        evaluation_rows=tally.evaluation["used"] if own else int(tally.mine("evaluation").sum()),
        rejected_rows=tally.verdicts["rejected"] + tally.untrainable,
        tokens=int((lengths * tally.copies).sum()),
        trained_tokens=int((tally.column("kept") * tally.copies).sum()),
        longest=int(lengths[training].max(initial=0)),
        mask=", ".join(HOW_WORDS[how] for how, _ in tally.how.most_common()),
        rows_per_epoch=int(tally.copies.sum()),
        repaired_rows=tally.verdicts["repaired"],
        dropped_rows=int(tally.mine("duplicate").sum()),
        bad_rows=config.data.bad_rows,
        duplicates=config.data.duplicates,
        sources=[_source(index, tally, lengths, opened) for index in range(len(opened.training.readers))],
        evaluation=_evaluation(tally, opened),
    )


def _source(index: int, tally: RowTally, lengths: Any, opened: OpenedData) -> SourceFacts:
    reader = opened.training.readers[index]
    mine = tally.column("source") == index
    verdicts = tally.sources[index] if index < len(tally.sources) else {}
    parts = {name: int((tally.mine(name) & mine).sum()) for name in ("training", "evaluation", "not_drawn")}
    return SourceFacts(
        name=opened.training.names[index],
        **_place(reader),
        weight=reader.source.weight,
        **verdicts,
        **parts,
        dropped=int((tally.mine("duplicate") & mine).sum()),
        seen=int(tally.copies[mine].sum()),
        tokens=int((lengths * tally.copies)[mine].sum()),
        trained_tokens=int((tally.column("kept") * tally.copies)[mine].sum()),
    )


def _evaluation(tally: RowTally, opened: OpenedData) -> EvaluationFacts | None:
    if opened.evaluation is None:
        return None
    counts = {name: count for name, count in tally.evaluation.items() if name != "problems"}
    return EvaluationFacts(name=opened.evaluation.names[0], **_place(opened.evaluation.readers[0]), **counts)


def _place(reader: DatasetReader) -> dict[str, str]:
    found = reader.found
    return {"path": reader.source.path, "subset": found.subset, "split": found.split, "commit": found.commit}
