"""The first rows of a dataset, told while the rest is read: who waits for a large file sees at once what is in it."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import DataReport, RowCounts, RowSummary
from qlora_studio.core.data.row_verdict import ReadRow
from qlora_studio.core.run.reports import DatasetReported
from qlora_studio.engine.context import Reporter

_ROWS = 100
_WORDS = 120  # characters of a row that could not be read
_SECONDS = 0.5  # from one report to the next; a dataset that is read sooner needs none


class FirstRows:
    """Sees every row that is read, keeps the first, and tells them with how many there were so far."""

    def __init__(self, config: RunConfig, names: Sequence[str], reporter: Reporter) -> None:
        self.rows: list[RowSummary] = []
        self._config, self._names, self._reporter = config, names, reporter
        self._verdicts: Counter[str] = Counter()
        self._next = time.monotonic() + _SECONDS

    def see(self, row: ReadRow) -> None:
        """Count a row."""
        self._verdicts[row.verdict] += 1
        if len(self.rows) < _ROWS:
            self.rows.append(self._summary(row))

    def tell(self) -> None:
        """Tell what was seen, as often as one likes."""
        if self.rows and time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS
            counts = RowCounts(total=self._verdicts.total(), **{str(name): n for name, n in self._verdicts.items()})
            report = DataReport(
                path=self._config.data.path,
                model=self._config.model.source,
                rows=counts,
                listing=tuple(self.rows),
                read=False,
                complete=False,
            )
            self._reporter.emit(DatasetReported(report=report))

    def _summary(self, row: ReadRow) -> RowSummary:
        words = row.example.first_words() if row.example is not None else row.raw[:_WORDS]
        facts: dict[str, Any] = {"number": row.number, "line": row.line, "dataset": self._names[row.source]}
        return RowSummary(**facts | {"verdict": str(row.verdict), "reason": row.reason, "words": words})
