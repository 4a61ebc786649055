"""Rows as they are trained, token by token, by the functions that training goes through; shown while a job stays."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.example import Example
from qlora_studio.core.data.report import Neighbour, Part, RowPack, RowPreview, RowsReport, TokenPiece
from qlora_studio.core.data.row_verdict import ReadRow
from qlora_studio.core.data.turn_marks import unlearned_words
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import ShowRows
from qlora_studio.core.run.reports import RowsReported
from qlora_studio.core.words import say
from qlora_studio.engine.context import Reporter
from qlora_studio.engine.data.plan import DataPlan
from qlora_studio.engine.data.prepared import PreparedData
from qlora_studio.engine.data.row_files import PackedRow, PackIndex
from qlora_studio.engine.data.tokenized_rows import IGNORED, RowPipeline, TokenizedRow, encode
from qlora_studio.engine.templates.rendering import control_tokens

_KEPT_BYTES = 32 << 20  # a dataset of up to this size stays in memory while rows are shown
_MOST_ROWS = 200  # in one answer


class RowPreviewer:
    """Shows rows as the pipeline, a tokenizer's, and a max length make them."""

    def __init__(
        self,
        pipeline: RowPipeline,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        names: Sequence[str] = ("",),
        packs: PackIndex | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self._variables = dict(variables or {})
        self._names, self._packs = names, packs
        self._pipeline, self._tokenizer, self._max_length = pipeline, tokenizer, max_length
        special: Any = tokenizer.convert_tokens_to_ids(control_tokens(tokenizer))  # a list, as it was given one
        self._special = {*tokenizer.all_special_ids, *special}

    def previews(self, rows: Sequence[ReadRow], parts: Sequence[Part]) -> list[RowPreview]:
        """Return the rows token by token."""
        tokenized = iter(self._pipeline.rows([row.example for row in rows if row.example is not None]))
        return [
            self._preview(row, part, next(tokenized) if row.example is not None else None)
            for row, part in zip(rows, parts, strict=True)
        ]

    def _preview(self, row: ReadRow, part: Part, tokens: TokenizedRow | None) -> RowPreview:
        return RowPreview(
            number=row.number,
            line=row.line,
            verdict=row.verdict.value,
            reason=row.reason,
            raw=row.raw,
            text=tokens.rendered.text if tokens else "",
            tokens=self._pieces(tokens) if tokens and tokens.ids else (),
            part=part,
            problem=tokens.refusal(tokens.trained(self._max_length)) if tokens else "",
            dataset=self._names[row.source],
            file=row.file,
            key=row.example.short_key() if row.example else "",
            pack=self._pack(row.number),
            variables={**self._variables, **(row.example.variables or {})} if row.example and tokens else {},
            remarks=tuple(_remarks(row.example, tokens, self._pipeline.loss_on)) if row.example and tokens else (),
        )

    def _pack(self, number: int) -> RowPack | None:
        """Return the pack of a row, as it stands in the file that is trained from."""
        index = self._packs.pack_of(number) if self._packs else None
        if self._packs is None or index is None:
            return None
        rows = self._packs.rows(index)
        at = next(place for place, row in enumerate(rows) if row.number == number)
        before, after = ([self._neighbour(row) for row in part] for part in (rows[:at], rows[at + 1 :]))
        tokens = sum(len(row.ids) for row in rows)
        return RowPack(number=index, packs=len(self._packs), tokens=tokens, before=tuple(before), after=tuple(after))

    def _neighbour(self, row: PackedRow) -> Neighbour:
        ids = row.ids.tolist()
        names = self._tokenizer.convert_ids_to_tokens(ids)
        pieces = [
            TokenPiece(
                id=token,
                string=string,
                token=str(name),
                trained=label != IGNORED,
                special=token in self._special,
                packed=True,
            )
            for token, label, name, string in zip(
                ids, row.labels.tolist(), names, strings_of(ids, self._tokenizer), strict=True
            )
        ]
        return Neighbour(number=row.number, tokens=tuple(pieces))

    def _pieces(self, row: TokenizedRow) -> tuple[TokenPiece, ...]:
        """Return the tokens with their pieces of the text: each character once, at the first token that has it."""
        names = self._tokenizer.convert_ids_to_tokens(row.ids)
        (encoding,) = encode([row.rendered.text], self._tokenizer)  # for the places of the ids, which rows do without
        pieces = []
        done = 0
        for index, (token, label, (_, end), name) in enumerate(
            zip(row.ids, row.labels, encoding.offsets, names, strict=True)
        ):
            end = len(row.rendered.text) if index == len(row.ids) - 1 else max(done, end)
            pieces.append(
                TokenPiece(
                    id=token,
                    string=row.rendered.text[done:end],
                    token=str(name),
                    trained=label != IGNORED and index < self._max_length,
                    special=token in self._special,
                    cut=index >= self._max_length,
                )
            )
            done = end
        return tuple(pieces)


def _remarks(example: Example, row: TokenizedRow, loss_on: str) -> Iterator[str]:
    """Yield what a person cannot see from the tokens alone: why some are not learned, and what is not there."""
    rendered = row.rendered
    yield from unlearned_words(example.messages, loss_on, rendered.unlearned)
    if rendered.how == "kept":
        yield f"Each answer stands as if it were the last{'' if row.dropped else ', and keeps its reasoning'}."
    if rendered.lost:
        tokens = f" ({row.dropped:,} tokens of reasoning)" if row.dropped else ""
        yield f"The template leaves out {', '.join(rendered.lost)}{tokens}."
    if rendered.changed:
        yield f"For the template, {', '.join(rendered.changed)}."


def strings_of(ids: Sequence[int], tokenizer: Any) -> list[str]:
    """Return the text that each token adds. Where one character takes several tokens, the first has it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [str(tokenizer.decode([token])) for token in ids]
    stream = DecodeStream(skip_special_tokens=False)
    strings = [""] * len(ids)
    first = 0  # of the tokens that make the next piece
    for index, token in enumerate(ids):
        piece = stream.step(backend, token)
        if piece is not None:
            strings[first], first = piece, index + 1
    return strings


class ShownRows:
    """Shows rows of a dataset as they are trained. A context manager: renderers hold child processes."""

    def __init__(self, config: RunConfig, data: PreparedData, reporter: Reporter) -> None:
        self._config, self._data, self._reporter = config, data, reporter
        self._datasets, self._tally = data.plan.opened.training, data.tally
        self._kept: list[ReadRow] | None = None
        self._pipelines: dict[str, RowPipeline] = {}

    def __enter__(self) -> "ShownRows":
        return self

    def __exit__(self, *exception: object) -> None:
        for pipeline in self._pipelines.values():
            pipeline.__exit__(*exception)

    def show(self, command: ShowRows) -> None:
        """Answer a command with a report of rows, in the order asked for; rows that there are not are passed over."""
        try:
            rows = self._previews(command)
        except StudioError as error:
            self._reporter.warn("rows_not_shown", f"{error.message} {error.advice}".strip())
            rows = ()
        report = RowsReport(request=command.request, rows=rows)
        self._reporter.emit(RowsReported(report=report))

    def _previews(self, command: ShowRows) -> tuple[RowPreview, ...]:
        config = self._config
        for path, value in command.settings.items():
            config = _changed(config, path, value)
        plan = DataPlan.of(config, self._data.plan.opened, self._data.plan.tokenizer, self._data.plan.day)
        numbers = list(self._numbers(command))[:_MOST_ROWS]
        found = {row.number: row for row in self._read(set(numbers))}
        rows = [found[number] for number in numbers if number in found]
        packs = self._data.packs if config == self._config else None  # the packs of other settings are not made
        previewer = RowPreviewer(
            self._pipeline(plan), plan.tokenizer, plan.max_length, self._datasets.names, packs, plan.variables
        )
        previews = previewer.previews(rows, [self._tally.part_of(row.number) for row in rows])
        return tuple(row.model_copy(update={"duplicate": self._tally.duplicate_of(row.number)}) for row in previews)

    def _numbers(self, command: ShowRows) -> Iterator[int]:
        """Return the rows' numbers, of words too: longest, shortest, random, first, rejected."""
        tokens = self._tally.column("tokens")
        usable = numpy.flatnonzero(self._tally.column("trained") > 0)
        numbers = self._tally.columns["number"]
        for row in command.rows:
            if isinstance(row, int) or row.isdigit():
                yield int(row)
            elif row == "rejected" or (row == "first" and not usable.size):
                yield from [problem["number"] for problem in self._tally.problems[:1]]
            elif not usable.size:
                continue
            elif row == "longest":
                yield numbers[int(usable[tokens[usable].argmax()])]
            elif row == "shortest":
                yield numbers[int(usable[tokens[usable].argmin()])]
            elif row == "first":
                yield numbers[int(usable[0])]
            elif row == "random":
                yield numbers[int(random.Random(command.request).choice(usable))]

    def _read(self, numbers: set[int]) -> Sequence[ReadRow]:
        if self._datasets.total_bytes > _KEPT_BYTES:
            return list(self._pick(numbers))
        if self._kept is None:
            self._kept = list(self._datasets.rows())
        return [self._kept[number] for number in numbers if 0 <= number < len(self._kept)]

    def _pick(self, numbers: set[int]) -> Iterator[ReadRow]:
        last = max(numbers, default=-1)
        for row in self._datasets.rows(first=min(numbers)) if numbers else ():
            if row.number in numbers:
                yield row
            if row.number >= last:
                return

    def _pipeline(self, plan: DataPlan) -> RowPipeline:
        how = json.dumps(
            [plan.loss_on, plan.reasoning, plan.same_role, plan.variables, plan.day.isoformat()], sort_keys=True
        )
        if how not in self._pipelines:
            self._pipelines[how] = plan.pipeline()
        return self._pipelines[how]


def _changed(config: RunConfig, path: str, value: object) -> RunConfig:
    try:
        return config.with_value(path, value)
    except (ValueError, KeyError) as error:
        raise StudioError(
            say("{path} cannot be {value}.", path=path, value=repr(value)),
            kind=FailureKind.INVALID_CONFIG,
            detail=str(error),
        ) from error
