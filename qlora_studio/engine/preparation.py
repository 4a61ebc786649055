"""One reading of a dataset: rendered, tokenized, cut, split and written, with a tally of everything on the way."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
from transformers import PreTrainedTokenizerBase

from qlora_studio.core.dataset_split import held_out
from qlora_studio.core.example import Example
from qlora_studio.core.problem import StudioError
from qlora_studio.core.run_config import RunConfig
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.rendering import ControlTokens, RowRenderer
from qlora_studio.engine.row_file import RowFile, divide
from qlora_studio.engine.row_tally import PARTS, RowTally
from qlora_studio.engine.tokenized_rows import BATCH_ROWS, TokenizedRow, problem_of, tokenize_stream
from qlora_studio.storage.dataset_reader import DatasetReader, ReadRow

_PARALLEL = "TOKENIZERS_PARALLELISM"


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

    def run(self, reader: DatasetReader, own_evaluation: DatasetReader | None) -> None:
        """Write everything into the folder."""
        data = self._config.data
        tally, keys = self._tokenize(reader, self._folder / "all.arrow")
        share = 0.0 if own_evaluation else data.evaluation_share
        flags = held_out(keys, share, data.seed)
        with RowFile(self._folder / "training.arrow") as training, RowFile(self._folder / "evaluation.arrow") as held:
            divide(self._folder / "all.arrow", flags, training, held)
        (self._folder / "all.arrow").unlink()
        tally.part = _parts(tally, flags)
        evaluation = held.fingerprint()
        if own_evaluation:
            evaluation = self._own_evaluation(own_evaluation)
        tally.duplicates = len(keys) - len(set(keys))
        tally.save(self._folder)
        fingerprint = {"the training rows": training.fingerprint(), "the evaluation rows": evaluation}
        text = json.dumps({"files": fingerprint})
        (self._folder / "fingerprint.json").write_text(text, encoding="utf-8")

    def _own_evaluation(self, reader: DatasetReader) -> str:
        """Replace the held-out rows with all of another dataset; return their fingerprint."""
        with RowFile(self._folder / "evaluation.arrow") as file:
            self._tokenize_into(file, reader, "evaluation rows")
        if not file.rows:
            raise StudioError(
                f"No row of {reader.source} can be used for evaluation.",
                kind="data_refused",
                advice="Choose another evaluation file.",
            )
        return file.fingerprint()

    def _tokenize(self, reader: DatasetReader, target: Path) -> tuple[RowTally, list[bytes]]:
        with RowFile(target) as file:
            return self._tokenize_into(file, reader, "rows")

    def _tokenize_into(self, file: RowFile, reader: DatasetReader, what: str) -> tuple[RowTally, list[bytes]]:
        tally, keys = RowTally(), list[bytes]()
        batches = _batches(self._read(reader, tally, what))
        with _all_cores():
            for rows, tokenized in tokenize_stream(batches, self._renderer, self._tokenizer):
                keys += self._take(rows, tokenized, tally, file)
                self._between()
        return tally, keys

    def _cancelled(self) -> bool:
        self._between()
        return False

    def _read(self, reader: DatasetReader, tally: RowTally, what: str) -> Iterator[ReadRow]:
        """Yield the rows that were read well; count and note the others."""

        def tell(done: int, total: int) -> None:
            self._context.progress(what, done, total, "bytes")

        with (self._folder / "verdicts.jsonl").open("a", encoding="utf-8") as verdicts:
            for row in reader.rows(progress=tell, cancelled=self._cancelled, with_raw=False):
                tally.verdicts[str(row.verdict)] += 1
                if row.verdict != "ok":
                    verdicts.write(_verdict_line(row.number, row.line, row.offset, str(row.verdict), row.reason))
                if row.example is None:
                    tally.refuse(row.number, row.line, row.offset, row.reason)
                    tally.list_row(number=row.number, line=row.line, verdict="rejected", reason=row.reason)
                else:
                    yield row

    def _take(
        self, rows: Sequence[ReadRow], tokenized: Sequence[TokenizedRow], tally: RowTally, file: RowFile
    ) -> list[bytes]:
        """Count a batch, write what can be trained of it, cut at the max length, and return its keys."""
        good: list[tuple[Example, int, TokenizedRow]] = []
        for row, tokens in zip(rows, tokenized, strict=True):
            assert row.example is not None
            tally.control_rows += self._control.stand_in(row.example)
            error = problem_of(tokens, self._max_length)
            if error:
                tally.hidden += tokens.rendered.hidden
                tally.refuse(row.number, row.line, row.offset, error, count=error)
            if tokens.ids and not tokens.rendered.error:
                tally.add(row.number, row.line, tokens, self._max_length, self._tokenizer.bos_token_id)
            tally.list_row(
                number=row.number,
                line=row.line,
                verdict=str(row.verdict),
                reason=error or row.reason,
                words=_first_words(row.example),
                tokens=len(tokens.ids) or None,
                trained=tokens.trained(self._max_length) if tokens.ids else None,
                part="left_out" if error else "",
            )
            if not error:
                good.append((row.example, row.number, tokens))
        length = self._max_length
        file.append(
            [row.ids[:length] for *_, row in good], [row.labels[:length] for *_, row in good], [n for _, n, _ in good]
        )
        return [example.key() for example, *_ in good]


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


def _batches(rows: Iterator[ReadRow]) -> Iterator[tuple[list[ReadRow], list[Example]]]:
    batch: list[ReadRow] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH_ROWS:
            yield batch, [item.example for item in batch if item.example is not None]
            batch = []
    if batch:
        yield batch, [item.example for item in batch if item.example is not None]


def _verdict_line(number: int, line: int, offset: int, verdict: str, reason: str) -> str:
    return json.dumps({"number": number, "line": line, "offset": offset, "verdict": verdict, "reason": reason}) + "\n"


def _first_words(example: Example) -> str:
    spoken = [message for message in example.messages if message["role"] != "system"]
    text = example.text if example.text is not None else str(spoken[0]["content"]) if spoken else ""
    return " ".join(text[:400].split())[:120]


def _parts(tally: RowTally, flags: Sequence[bool]) -> Any:
    """Return the part of each row in the tally: of those that can be trained, as `flags` say; the others left out."""
    parts = numpy.full(len(tally.columns["number"]), PARTS.index("left_out"), dtype=numpy.int8)
    parts[tally.column("kept") > 0] = numpy.asarray(flags, dtype=numpy.int8)
    return parts
