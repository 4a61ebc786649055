"""Rows of a dataset, shown as they are trained while a data job stays."""

import random
from collections.abc import Iterator, Sequence

import numpy
from transformers import PreTrainedTokenizerBase

from qlora_studio.core.data.report import RowPreview, RowsReport
from qlora_studio.core.data.row_verdict import ReadRow
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.commands import ShowRows
from qlora_studio.core.run.events import Reported
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.prepared import PreparedData, rendering_date
from qlora_studio.engine.data.preview import RowPreviewer
from qlora_studio.engine.templates.rendering import RowRenderer
from qlora_studio.storage.datasets.mixture import DatasetMixture

_KEPT_BYTES = 32 << 20  # a dataset of up to this size stays in memory while rows are shown
_MOST_ROWS = 200  # in one answer


class ShownRows:
    """Shows rows of a dataset as they are trained. A context manager: renderers hold child processes."""

    def __init__(
        self,
        config: RunConfig,
        tokenizer: PreTrainedTokenizerBase,
        data: PreparedData,
        datasets: DatasetMixture,
        context: JobContext,
    ) -> None:
        self._config, self._tokenizer, self._datasets, self._context = config, tokenizer, datasets, context
        self._tally, self._packs = data.tally, data.packs
        self._kept: list[ReadRow] | None = None
        self._renderers: dict[str, RowRenderer] = {}

    def __enter__(self) -> "ShownRows":
        return self

    def __exit__(self, *exception: object) -> None:
        for renderer in self._renderers.values():
            renderer.__exit__(*exception)

    def show(self, command: ShowRows) -> None:
        """Answer a command with a report of rows, in the order asked for; rows that there are not are passed over."""
        try:
            rows = self._previews(command)
        except StudioError as error:
            self._context.warn("rows_not_shown", f"{error.message} {error.advice}".strip())
            rows = ()
        report = RowsReport(request=command.request, rows=rows)
        self._context.emit(Reported(kind="rows", report=report.model_dump()))

    def _previews(self, command: ShowRows) -> tuple[RowPreview, ...]:
        config = self._config
        for path, value in command.settings.items():
            config = _changed(config, path, value)
        numbers = list(self._numbers(command))[:_MOST_ROWS]
        found = {row.number: row for row in self._read(set(numbers))}
        rows = [found[number] for number in numbers if number in found]
        packs = self._packs if config == self._config else None  # the packs of other settings are not made
        previewer = RowPreviewer(
            self._renderer(config), self._tokenizer, config.training.max_length, self._datasets.names, packs
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

    def _renderer(self, config: RunConfig) -> RowRenderer:
        loss_on = config.training.loss_on
        if loss_on not in self._renderers:
            now = rendering_date(self._context)
            self._renderers[loss_on] = RowRenderer(self._tokenizer, loss_on=loss_on, now=now)
        return self._renderers[loss_on]


def _changed(config: RunConfig, path: str, value: object) -> RunConfig:
    try:
        return config.with_value(path, value)
    except (ValueError, KeyError) as error:
        raise StudioError(f"{path} cannot be {value!r}.", kind="invalid_config", detail=str(error)) from error
