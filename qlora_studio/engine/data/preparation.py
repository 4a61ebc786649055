"""The way of the rows of a plan, from top to bottom: read, rendered, masked, tokenized, cut, split and written."""

import gc
import json
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from qlora_studio.core.data.example import Example
from qlora_studio.core.data.row_verdict import ReadRow
from qlora_studio.core.data.split import Keys, RowPlan, first_of, plan_rows, repeated
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.context import Channel
from qlora_studio.engine.data.answer_ends import AnswerEnds
from qlora_studio.engine.data.plan import DataPlan
from qlora_studio.engine.data.row_files import EVALUATION, TRAINING, VERDICTS, RowFile, VerdictFile, divide, labels_of
from qlora_studio.engine.data.tally import RowTally
from qlora_studio.engine.data.tokenized_rows import IGNORED, RowPipeline, TokenizedRow
from qlora_studio.engine.templates.rendering import ControlTokens
from qlora_studio.storage.datasets.mixture import DatasetMixture
from qlora_studio.storage.datasets.reader import FormatMistaken

FINGERPRINT = "fingerprint.json"
EXCLUDED = "left out by hand (data.exclude)"
_BATCH_ROWS = 512
_PARALLEL = "TOKENIZERS_PARALLELISM"
_KEPT_EVALUATION_PROBLEMS = 50
_KEPT_REPEATS = 200
_FIRST_TOKENS = 24


def prepare(plan: DataPlan, folder: Path, channel: Channel) -> None:
    """Write the rows of a plan into a folder, with their tally and a verdict on each that is not simply taken.

    Read, render, mask, tokenize and cut are one stream, row after row; split needs the keys of all rows, and write what
    it decided. Packs are laid from what is written here, once for each seed (`row_files.packed_dataset`).
    """
    with plan.pipeline() as pipeline:
        stream = RowStream(plan, pipeline, folder, channel)
        rows = stream.run(plan.opened.training, "rows")
        split = split_rows(rows, plan)
        note_repeats(rows, split, plan, folder)
        with RowFile(folder / TRAINING) as training, RowFile(folder / EVALUATION) as evaluation:
            divide(rows.path, (split.copies, training), (split.held_out, evaluation))
            if plan.opened.evaluation:
                own = stream.run(plan.opened.evaluation, "evaluation rows")
                hold_out_own(own, rows, split, evaluation)
        named = {*plan.variables, *rows.tally.variables}
        rows.tally.unread_variables = sorted(named - pipeline.reads()) if named else []
    rows.path.unlink()
    rows.tally.save(folder)
    files = {"the training rows": training.fingerprint(), "the evaluation rows": evaluation.fingerprint()}
    (folder / FINGERPRINT).write_text(json.dumps({"files": files}), encoding="utf-8")


class RowKeys:
    """The keys of the rows that can be trained, and the dataset that each is from."""

    def __init__(self) -> None:
        self._exact, self._near, self._sources = array("Q"), array("Q"), array("H")

    def add(self, example: Example, source: int) -> None:
        """Add a row."""
        exact, near = example.keys()
        self._exact.append(int.from_bytes(exact[:8], "little"))
        self._near.append(int.from_bytes(near[:8], "little"))
        self._sources.append(source)

    def exact(self) -> Keys:
        """Return the keys that are equal for equal rows."""
        return numpy.array(self._exact, dtype=numpy.uint64)

    def near(self) -> Keys:
        """Return the keys that are equal for rows which differ in case, white space and punctuation only."""
        return numpy.array(self._near, dtype=numpy.uint64)

    def sources(self) -> Any:
        """Return the index of each row's dataset."""
        return numpy.array(self._sources, dtype=numpy.int64)


@dataclass
class TokenizedData:
    """The rows of datasets that can be trained, in a file and with their keys, and the tally of all that were read."""

    data: DatasetMixture
    path: Path
    tally: RowTally = field(default_factory=RowTally)
    keys: RowKeys = field(default_factory=RowKeys)


class RowStream:
    """The stages that one row after another passes, from its file into one of ours, with a tally on the way."""

    def __init__(self, plan: DataPlan, pipeline: RowPipeline, folder: Path, channel: Channel) -> None:
        self._pipeline, self._folder, self._channel = pipeline, folder, channel
        self._max_length, self._bos = plan.max_length, plan.tokenizer.bos_token_id
        self._control, self._ends = ControlTokens(plan.tokenizer), AnswerEnds(plan.tokenizer, plan.variables)
        self._exclude = frozenset(plan.exclude)

    def run(self, data: DatasetMixture, what: str) -> TokenizedData:
        """Read all rows into a file; again where they turn out not to be of the format that the first one has."""
        verdicts = self._folder / VERDICTS
        verdicts.touch()
        written = verdicts.stat().st_size
        while True:
            rows = TokenizedData(data, self._folder / f"{what}.arrow")
            try:
                self._run_once(rows, what)
            except FormatMistaken:
                os.truncate(verdicts, written)
            else:
                return rows

    def _run_once(self, rows: TokenizedData, what: str) -> None:
        noted = VerdictFile(self._folder / VERDICTS, rows.data.names, what)
        with noted as verdicts, RowFile(rows.path) as file, _all_cores(), _seldom_collected():
            batches = _batches(self._read(rows, what, verdicts))
            for read, tokenized in self._pipeline.stream(batches):  # rendered, masked, tokenized
                self._cut(read, tokenized, rows, file, verdicts)
                self._channel.raise_if_stopped()

    def _read(self, rows: TokenizedData, what: str, verdicts: VerdictFile) -> Iterator[ReadRow]:
        """Yield the rows that were read well; count and note the others."""

        def tell(done: int, total: int) -> None:
            self._channel.progress(what, done, total, "bytes")

        for row in rows.data.rows(progress=tell, cancelled=self._cancelled, with_raw=False, guess=True):
            rows.tally.read(row.source, str(row.verdict))
            if row.verdict != "ok":
                verdicts.add(row)
            if row.example is None:
                rows.tally.refuse(row, row.reason)
                rows.tally.list_row(row)
            elif self._exclude and (key := row.example.short_key()) in self._exclude:
                rows.tally.excluded[key] += 1
                verdicts.add(row, "excluded", EXCLUDED)
                rows.tally.list_row(row, reason=EXCLUDED, words=row.example.first_words(), key=key)
            else:
                yield row

    def _cancelled(self) -> bool:
        self._channel.raise_if_stopped()
        return False

    def _cut(
        self,
        read: Sequence[ReadRow],
        tokenized: Sequence[TokenizedRow],
        rows: TokenizedData,
        file: RowFile,
        verdicts: VerdictFile,
    ) -> None:
        """Count a batch, and write what can be trained of it, cut at the max length, with its keys."""
        tally = rows.tally
        good: list[tuple[int, TokenizedRow]] = []
        rendered: list[tuple[ReadRow, TokenizedRow, int]] = []
        for row, tokens in zip(read, tokenized, strict=True):
            assert row.example is not None
            kept = tokens.trained(self._max_length)
            error = tokens.refusal(kept)
            if error:
                tally.hidden += tokens.rendered.hidden
                tally.refuse(row, error, trainable=False)
                verdicts.add(row, "untrainable", error)
            else:
                good.append((row.number, tokens))
                rows.keys.add(row.example, row.source)
            if tokens.ids and not tokens.rendered.error:
                rendered.append((row, tokens, kept))
            if row.unread:
                tally.leave(row, tokens.rendered.text)
            if tally.lists(row):
                tally.list_row(
                    row,
                    reason=error or row.reason,
                    words=row.example.first_words(),
                    key=row.example.short_key(),
                    tokens=len(tokens.ids) or None,
                    trained=kept if tokens.ids else None,
                    part="left_out" if error else "",
                )
        tally.control_rows += sum([self._control.stand_in(row.example) for row in read if row.example is not None])
        tally.open_ends += sum([self._ends.is_open(tokens) for _, tokens, _ in rendered])
        tally.doubled_ends += sum([self._ends.is_doubled(tokens) for _, tokens, _ in rendered])
        tally.add(rendered, self._bos)
        file.append([row for _, row in good], [number for number, _ in good], self._max_length)


def split_rows(rows: TokenizedData, plan: DataPlan) -> RowPlan:
    """Decide which rows are dropped, not drawn, held out, and how often the others are trained on; note it."""
    exact, near = rows.keys.exact(), rows.keys.near()
    split = plan_rows(
        exact,
        near,
        rows.keys.sources(),
        weights=[reader.source.weight for reader in rows.data.readers],
        duplicates=plan.duplicates,
        share=0.0 if plan.opened.evaluation else plan.evaluation_share,
        seed=plan.seed,
    )
    rows.tally.decide(split, repeated(exact), repeated(near))
    return split


def note_repeats(rows: TokenizedData, split: RowPlan, plan: DataPlan, folder: Path) -> None:
    """List the first rows that repeat an earlier one, and write those that are dropped to the verdicts."""
    tally, first = rows.tally, first_of(rows.keys.near())
    usable = numpy.flatnonzero(tally.column("kept") > 0)  # where in the tally each row that can be trained stands
    numbers, lines, sources = (tally.column(name)[usable] for name in ("number", "line", "source"))
    with VerdictFile(folder / VERDICTS, rows.data.names, "rows") as verdicts:
        for index in numpy.flatnonzero(split.repeats).tolist():
            verdicts.add_dropped(
                *(int(part) for part in (numbers[index], lines[index], sources[index], numbers[first[index]]))
            )
    wanted = numpy.flatnonzero(first != numpy.arange(len(first)))[:_KEPT_REPEATS]
    tally.originals = {str(numbers[index]): int(numbers[first[index]]) for index in wanted.tolist()}
    listed = {row["number"] for row in tally.listing}
    unlisted = [index for index in wanted.tolist() if numbers[index] not in listed]
    for index, labels in zip(unlisted, labels_of(rows.path, unlisted), strict=True):
        answer = plan.tokenizer.decode([token for token in labels if token != IGNORED][:_FIRST_TOKENS])
        tally.listing.append(tally.line_at(int(usable[index]), f"… {answer}"))


def hold_out_own(own: TokenizedData, rows: TokenizedData, split: RowPlan, evaluation: RowFile) -> None:
    """Hold out the rows of a dataset of its own, but those that training rows say too. Raises StudioError for none."""
    both = numpy.isin(own.keys.near(), rows.keys.near()[split.copies > 0])
    divide(own.path, (~both, evaluation))
    own.path.unlink()
    rows.tally.evaluation = {
        **{name: own.tally.verdicts[name] for name in ("ok", "repaired", "rejected")},
        "untrainable": own.tally.untrainable,
        "in_training": int(both.sum()),
        "used": evaluation.rows,
        "problems": own.tally.problems[:_KEPT_EVALUATION_PROBLEMS],
    }
    if not evaluation.rows:
        why = " All of them are in the training data, too." if both.any() else ""
        raise StudioError(
            say("No row of {names} can be used for evaluation.{why}", names=", ".join(own.data.names), why=why),
            kind=FailureKind.DATA_REFUSED,
            advice=say("Choose another evaluation file."),
        )


@contextmanager
def _all_cores() -> Iterator[None]:
    """Let the tokenizer use every core. Elsewhere it may not: it warns when a process that did so is forked."""
    before = os.environ.get(_PARALLEL)
    os.environ[_PARALLEL] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PARALLEL]
        else:
            os.environ[_PARALLEL] = before


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Let the collector look on more rarely: rows come by the million, none in a cycle, and it follows every one."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _batches(rows: Iterator[ReadRow]) -> Iterator[tuple[list[ReadRow], list[Example]]]:
    batch: list[ReadRow] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH_ROWS:
            yield batch, [item.example for item in batch if item.example is not None]
            batch = []
    if batch:
        yield batch, [item.example for item in batch if item.example is not None]
