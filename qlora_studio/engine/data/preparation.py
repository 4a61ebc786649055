"""One reading of a dataset: rendered, tokenized, cut, split and written, with a tally of everything on the way."""

import gc
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
from transformers import PreTrainedTokenizerBase

from qlora_studio.core.data.example import Example
from qlora_studio.core.data.row_verdict import ReadRow
from qlora_studio.core.data.split import Keys, RowPlan, first_of, plan_rows, repeated
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.row_files import VERDICTS, RowFile, VerdictFile, divide, labels_of
from qlora_studio.engine.data.tally import DUPLICATES, PARTS, RowKeys, RowTally
from qlora_studio.engine.data.tokenized_rows import BATCH_ROWS, IGNORED, TokenizedRow, problem_of, tokenize_stream
from qlora_studio.engine.templates.rendering import ControlTokens, RowRenderer
from qlora_studio.storage.datasets.mixture import DatasetMixture
from qlora_studio.storage.datasets.reader import FormatMistaken

_PARALLEL = "TOKENIZERS_PARALLELISM"
_KEPT_EVALUATION_PROBLEMS = 50
_KEPT_REPEATS = 200
_FIRST_TOKENS = 24


class Preparation:
    """One reading of the dataset, into a folder."""

    def __init__(
        self,
        config: RunConfig,
        tokenizer: PreTrainedTokenizerBase,
        renderer: RowRenderer,
        context: JobContext,
        between: Callable[[], object],
        folder: Path,
    ) -> None:
        self._config, self._tokenizer, self._renderer = config, tokenizer, renderer
        self._context, self._between, self._folder = context, between, folder
        self._control = ControlTokens(tokenizer)
        self._max_length = config.training.max_length

    def run(self, data: DatasetMixture, own_evaluation: DatasetMixture | None) -> None:
        """Write everything into the folder."""
        target = self._folder / "all.arrow"
        tally, keys = self._tokenize(data, target, "rows")
        plan = self._plan(tally, keys, 0.0 if own_evaluation else self._config.data.evaluation_share)
        with RowFile(self._folder / "training.arrow") as training, RowFile(self._folder / "evaluation.arrow") as held:
            divide(target, plan.copies, plan.held_out, training, held)
            self._note_repeats(data.names, tally, keys, plan, target)
            if own_evaluation:
                self._own_evaluation(own_evaluation, keys.near()[plan.copies > 0], tally, held)
            evaluation = held.fingerprint()
        target.unlink()
        tally.save(self._folder)
        fingerprint = {"the training rows": training.fingerprint(), "the evaluation rows": evaluation}
        text = json.dumps({"files": fingerprint})
        (self._folder / "fingerprint.json").write_text(text, encoding="utf-8")

    def _plan(self, tally: RowTally, keys: RowKeys, share: float) -> RowPlan:
        """Decide what becomes of each row, and write it into the tally."""
        data = self._config.data
        plan = plan_rows(
            keys.exact(),
            keys.near(),
            keys.sources(),
            weights=[source.weight for source in data.sources],
            duplicates=data.duplicates,
            share=share,
            seed=data.seed,
        )
        exact, near = repeated(keys.exact()), repeated(keys.near())
        tally.part = _of_all(tally, _parts(plan), PARTS.index("left_out"))
        tally.copies = _of_all(tally, plan.copies, 0)
        tally.repeats = _of_all(
            tally, numpy.where(exact, DUPLICATES.index("exact"), near * DUPLICATES.index("near")), 0
        )
        return plan

    def _own_evaluation(self, data: DatasetMixture, trained: Keys, tally: RowTally, file: RowFile) -> None:
        """Take the held-out rows from a dataset of their own, but those that training rows say too."""
        target = self._folder / "own.arrow"
        own, keys = self._tokenize(data, target, "evaluation rows")
        both = numpy.isin(keys.near(), trained)
        with RowFile(self._folder / "dropped.arrow") as nowhere:
            divide(target, numpy.zeros(len(both), dtype=int), ~both, nowhere, file)
        (self._folder / "dropped.arrow").unlink()
        target.unlink()
        tally.evaluation = {
            **{name: own.verdicts[name] for name in ("ok", "repaired", "rejected")},
            "untrainable": own.untrainable,
            "in_training": int(both.sum()),
            "used": file.rows,
            "problems": own.problems[:_KEPT_EVALUATION_PROBLEMS],
        }
        if not file.rows:
            why = " All of them are in the training data, too." if both.any() else ""
            raise StudioError(
                f"No row of {', '.join(data.names)} can be used for evaluation.{why}",
                kind=FailureKind.DATA_REFUSED,
                advice="Choose another evaluation file.",
            )

    def _tokenize(self, data: DatasetMixture, target: Path, what: str) -> tuple[RowTally, RowKeys]:
        """Read all rows into a file; again where they turn out not to be of the format that the first one has."""
        verdicts = self._folder / VERDICTS
        verdicts.touch()
        written = verdicts.stat().st_size
        while True:
            try:
                return self._tokenize_once(data, target, what)
            except FormatMistaken:
                os.truncate(verdicts, written)

    def _tokenize_once(self, data: DatasetMixture, target: Path, what: str) -> tuple[RowTally, RowKeys]:
        tally, keys = RowTally(), RowKeys()
        batches = _batches(self._read(data, tally, what))
        with RowFile(target) as file, _all_cores(), _seldom_collected():
            for rows, tokenized in tokenize_stream(batches, self._renderer, self._tokenizer):
                self._take(rows, tokenized, tally, file, keys)
                self._between()
        return tally, keys

    def _cancelled(self) -> bool:
        self._between()
        return False

    def _read(self, data: DatasetMixture, tally: RowTally, what: str) -> Iterator[ReadRow]:
        """Yield the rows that were read well; count and note the others."""

        def tell(done: int, total: int) -> None:
            self._context.progress(what, done, total, "bytes")

        with VerdictFile(self._folder / VERDICTS, data.names, what) as verdicts:
            for row in data.rows(progress=tell, cancelled=self._cancelled, with_raw=False, guess=True):
                tally.read(row.source, str(row.verdict))
                if row.verdict != "ok":
                    verdicts.add(row)
                if row.example is None:
                    tally.refuse(row, row.reason)
                    tally.list_row(row)
                else:
                    yield row

    def _take(
        self,
        rows: Sequence[ReadRow],
        tokenized: Sequence[TokenizedRow],
        tally: RowTally,
        file: RowFile,
        keys: RowKeys,
    ) -> None:
        """Count a batch, and write what can be trained of it, cut at the max length, with its keys."""
        good: list[tuple[int, TokenizedRow]] = []
        rendered: list[tuple[ReadRow, TokenizedRow, int]] = []
        for row, tokens in zip(rows, tokenized, strict=True):
            assert row.example is not None
            kept = tokens.trained(self._max_length)
            error = problem_of(tokens, kept)
            if error:
                tally.hidden += tokens.rendered.hidden
                tally.refuse(row, error, trainable=False)
            else:
                good.append((row.number, tokens))
                keys.add(row.example, row.source)
            if tokens.ids and not tokens.rendered.error:
                rendered.append((row, tokens, kept))
            if tally.lists(row):
                tally.list_row(
                    row,
                    reason=error or row.reason,
                    words=_first_words(row.example),
                    tokens=len(tokens.ids) or None,
                    trained=kept if tokens.ids else None,
                    part="left_out" if error else "",
                )
        tally.control_rows += sum([self._control.stand_in(row.example) for row in rows if row.example is not None])
        tally.add(rendered, self._tokenizer.bos_token_id)
        file.append([row for _, row in good], [number for number, _ in good], self._max_length)

    def _note_repeats(self, names: Sequence[str], tally: RowTally, keys: RowKeys, plan: RowPlan, target: Path) -> None:
        """List the first rows that repeat an earlier one, and write those that are dropped to the verdicts."""
        first = first_of(keys.near())
        rows = numpy.flatnonzero(tally.column("kept") > 0)  # where in the tally each row that can be trained stands
        numbers, lines, sources = (tally.column(name)[rows] for name in ("number", "line", "source"))
        with VerdictFile(self._folder / VERDICTS, names, "rows") as verdicts:
            for index in numpy.flatnonzero(plan.repeats).tolist():
                verdicts.add_dropped(
                    *(int(part) for part in (numbers[index], lines[index], sources[index], numbers[first[index]]))
                )
        wanted = numpy.flatnonzero(first != numpy.arange(len(first)))[:_KEPT_REPEATS]
        tally.originals = {str(numbers[index]): int(numbers[first[index]]) for index in wanted.tolist()}
        listed = {row["number"] for row in tally.listing}
        unlisted = [index for index in wanted.tolist() if numbers[index] not in listed]
        for index, labels in zip(unlisted, labels_of(target, unlisted), strict=True):
            answer = self._tokenizer.decode([token for token in labels if token != IGNORED][:_FIRST_TOKENS])
            tally.listing.append(tally.line_at(int(rows[index]), f"… {answer}"))


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
        if len(batch) == BATCH_ROWS:
            yield batch, [item.example for item in batch if item.example is not None]
            batch = []
    if batch:
        yield batch, [item.example for item in batch if item.example is not None]


def _first_words(example: Example) -> str:
    spoken = [message for message in example.messages if message["role"] != "system"]
    text = example.text if example.text is not None else str(spoken[0]["content"]) if spoken else ""
    return " ".join(text[:400].split())[:120]


def _parts(plan: RowPlan) -> Any:
    """Return the part of each row that can be trained, as an index into PARTS."""
    parts = numpy.full(len(plan.copies), PARTS.index("training"), dtype=numpy.int8)
    for name, flags in (("evaluation", plan.held_out), ("duplicate", plan.repeats), ("not_drawn", plan.not_drawn)):
        parts[flags] = PARTS.index(name)
    return parts


def _of_all(tally: RowTally, values: Any, other: int) -> Any:
    """Return values of the rows that can be trained as values of all rows in the tally; the rest gets `other`."""
    whole = numpy.full(len(tally.columns["number"]), other, dtype=numpy.asarray(values).dtype)
    whole[tally.column("kept") > 0] = values
    return whole
