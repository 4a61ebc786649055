"""The rows of a config's dataset as they are trained: read, rendered, tokenized, cut, split. For preview and training.

Prepared once: the result is kept in the cache under a hash of everything that goes into it, and mapped into memory.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qlora_studio import __version__
from qlora_studio.core.dataset_split import held_out
from qlora_studio.core.events import DatasetPrepared
from qlora_studio.core.example import Example
from qlora_studio.core.problem import StudioError
from qlora_studio.core.run_config import RunConfig
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.rendering import HOW_WORDS, ControlTokens, RowRenderer
from qlora_studio.engine.row_file import RowFile, divide
from qlora_studio.engine.row_tally import PARTS, RowTally
from qlora_studio.engine.tokenized_rows import BATCH_ROWS, TokenizedRow, problem_of, tokenize_stream
from qlora_studio.storage.dataset_reader import DatasetReader, ReadRow, open_dataset
from qlora_studio.storage.fingerprint import fingerprint_file
from qlora_studio.storage.settings import cache_path

_LAYOUT = 2  # changes when the same input gives other rows
_KEPT = 10  # prepared datasets in the cache


@dataclass(frozen=True)
class PreparedData:
    """Rows with `input_ids`, `labels` (-100 where not trained) and `row`, the row's number in the file.

    `fingerprint` is of the rows' content, in the shape that `storage.fingerprint.differences` compares.
    """

    training: Dataset
    evaluation: Dataset | None
    facts: DatasetPrepared
    fingerprint: dict[str, Any]
    tally: RowTally
    folder: Path


def prepare_datasets(config: RunConfig, tokenizer: PreTrainedTokenizerBase, context: JobContext) -> PreparedData:
    """Return the datasets of a run. Raises StudioError where they cannot be trained on.

    A tokenizer without a chat template is given a plain one, which is then saved with the adapter.
    """
    data = prepare(config, tokenizer, context, context.raise_if_stopped)
    if reason := refusal(data.tally, config):
        raise reason
    if data.tally.untrainable:
        reasons = "; ".join(f"{count} because {reason}" for reason, count in data.tally.errors.most_common(3))
        context.warn("rows_left_out", f"{data.tally.untrainable} rows are left out: {reasons}.")
    if data.tally.verdicts["rejected"]:
        context.warn("rows_rejected", f"{data.tally.verdicts['rejected']} rows could not be read and are left out.")
    return data


def prepare(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    context: JobContext,
    between: Callable[[], object],
    reader: DatasetReader | None = None,
) -> PreparedData:
    """Return the datasets, from the cache where they are in it, whether or not a run would take them.

    `between` is called now and then, and may raise. `reader` is of the config's dataset, where there is one already.
    """
    reader = reader or open_dataset(config.data)
    evaluation = open_dataset(config.data, path=config.data.evaluation_path) if config.data.evaluation_path else None
    now = rendering_date(context)
    with RowRenderer(tokenizer, loss_on=config.training.loss_on, now=now) as renderer:
        if renderer.template_name != "model":
            context.warn(
                "no_chat_template",
                f"This base model has no chat template. A {renderer.template_name} one is used, and saved with it.",
            )
        store = cache_path() / "datasets"
        folder = store / _key(config, tokenizer, now, (reader, evaluation))
        if (found := _opened(folder, config)) is not None:
            return found
        staging = store / f".{os.getpid()}-{folder.name[:16]}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            _Preparation(config, tokenizer, renderer, context, between, staging).run(reader, evaluation)
            shutil.rmtree(folder, ignore_errors=True)  # a damaged one, or none
            staging.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    _let_go_of_oldest(store)
    found = _opened(folder, config)
    if found is None:
        raise StudioError(
            "The prepared rows in the cache are damaged.", kind="damaged", advice=f"Delete {folder} and try again."
        )
    return found


def refusal(tally: RowTally, config: RunConfig) -> StudioError | None:
    """Return why a run would refuse these rows, or None."""
    rejected, read = tally.verdicts["rejected"], tally.verdicts["ok"] + tally.verdicts["repaired"]
    name = Path(config.data.path).name
    first = f" The first: {tally.problems[0]['reason']} (line {tally.problems[0]['line']})." if tally.problems else ""
    if not read:
        return _refused(f"No row of {name} can be read.{first}", "Check the file and its format on the Data page.")
    if tally.hidden and tally.hidden == read:
        return _refused(
            "The chat template of this model does not show where its answers begin and end: "
            "they alone cannot be trained exactly.",
            'Set "Learn from" to the full text (training.loss_on = "all"), or choose another model.',
        )
    if not (numpy.asarray(tally.part) == 0).any():
        return _refused(f"No row of {name} can be trained.{first}", "Look at the rows and checks on the Data page.")
    if config.data.bad_rows == "stop" and rejected + tally.untrainable:
        return _refused(
            f"{rejected + tally.untrainable} rows of {name} cannot be used.{first}",
            "Correct them, or choose to leave bad rows out.",
        )
    return None


def rendering_date(context: JobContext) -> datetime:
    """Return the date for templates that write one: that of the folder's first event, so that a resumed run agrees."""
    first = next(context.folder.events(), None)
    return datetime.fromtimestamp(first.time) if first else datetime.now()


class _Preparation:
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
            raise _refused(f"No row of {reader.source} can be used for evaluation.", "Choose another evaluation file.")
        return file.fingerprint()

    def _tokenize(self, reader: DatasetReader, target: Path) -> tuple[RowTally, list[bytes]]:
        with RowFile(target) as file:
            return self._tokenize_into(file, reader, "rows")

    def _tokenize_into(self, file: RowFile, reader: DatasetReader, what: str) -> tuple[RowTally, list[bytes]]:
        tally, keys = RowTally(), list[bytes]()
        batches = _batches(self._read(reader, tally, what))
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


def _opened(folder: Path, config: RunConfig) -> PreparedData | None:
    """Return what a folder of the cache holds, or None where it is not there or not whole."""
    try:
        tally = RowTally.load(folder)
        fingerprint = json.loads((folder / "fingerprint.json").read_text("utf-8"))
        training = Dataset.from_file(str(folder / "training.arrow"))
        evaluation = Dataset.from_file(str(folder / "evaluation.arrow"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    folder.touch()
    facts = _facts(tally, config, len(training), len(evaluation))
    return PreparedData(training, evaluation if len(evaluation) else None, facts, fingerprint, tally, folder)


def _facts(tally: RowTally, config: RunConfig, training: int, evaluation: int) -> DatasetPrepared:
    """Tokens are those of the training rows, after the cut."""
    mine = numpy.asarray(tally.part) == 0
    lengths = numpy.minimum(tally.column("tokens")[mine], config.training.max_length)
    return DatasetPrepared(
        training_rows=training,
        evaluation_rows=evaluation,
        rejected_rows=tally.verdicts["rejected"] + tally.untrainable,
        tokens=int(lengths.sum()),
        trained_tokens=int(tally.column("kept")[mine].sum()),
        longest=int(lengths.max(initial=0)),
        mask=", ".join(HOW_WORDS[how] for how, _ in tally.how.most_common()),
    )


def _key(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    now: datetime,
    readers: Sequence[DatasetReader | None],
) -> str:
    """Return a hash of all that decides the rows."""
    template = str(tokenizer.chat_template)
    parts = {
        "studio": [__version__, _LAYOUT],
        "files": [_files(reader) for reader in readers if reader],
        "data": config.data.model_dump(exclude={"path", "evaluation_path", "bad_rows"}),
        "training": [config.training.max_length, config.training.loss_on],
        "template": template,
        "special": {name: str(value) for name, value in tokenizer.special_tokens_map.items()},
        "tokenizer": sha256(_tokenizer_text(tokenizer).encode()).hexdigest(),
        "date": now.date().isoformat() if "strftime_now" in template else "",
    }
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _files(reader: DatasetReader) -> list[list[Any]]:
    return [[file.path.name, fingerprint_file(file.path)] for file in reader.files]


def _tokenizer_text(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return str(backend.to_str()) if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)


def _let_go_of_oldest(store: Path) -> None:
    folders = [path for path in store.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for path in sorted(folders, key=lambda item: item.stat().st_mtime, reverse=True)[_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


def _refused(message: str, advice: str) -> StudioError:
    return StudioError(message, kind="data_refused", advice=advice)
