"""What the whole of a dataset looks like: formats with their evidence, verdicts, columns, duplicates."""

import re
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from qlora_studio.core.data.example import Example
from qlora_studio.core.data.formats import FORMATS, UNKNOWN
from qlora_studio.core.data.row_verdict import ReadRow, RowVerdict

KEPT_REJECTIONS = 1000
_KEPT_RAW = 300
_KEPT_COLUMNS = 1000
_KEPT_REASONS = 100
_PARTICULAR = re.compile(r"\\u[0-9a-f]{4}|(?<![\w-])\d\w*|“[^”]*”|'[^']*'")


@dataclass(frozen=True)
class RejectedRow:
    """A row that was left out: where it stands, why, and how it begins."""

    row: int
    line: int
    offset: int
    reason: str
    raw: str
    file: str = ""


@dataclass(frozen=True)
class DatasetSurvey:
    """A dataset as a whole. All counts are rows.

    `evidence` says how many rows look like each format; the empty name counts those that look like none. Where `mixed`,
    rows of more than one format stand there, and those that are not of `format` are rejected. `repairs` and `reasons`
    say how often; numbers and names in their words are replaced by `…`. `unread` counts what nobody asked for, by path;
    `proposed` is a mapping of columns by which rejected rows can be read. Exact duplicates equal an earlier row; near
    duplicates equal one when letter case and ASCII white space and punctuation are ignored, and are no exact ones.
    """

    path: str
    files: tuple[str, ...]
    container: str
    encoding: str
    format: str
    forced: bool
    mixed: bool
    evidence: dict[str, int]
    columns: dict[str, int]
    unread: dict[str, int]
    proposed: dict[str, str]
    total: int
    ok: int
    repaired: int
    rejected: int
    repairs: dict[str, int]
    reasons: dict[str, int]
    first_rejections: tuple[RejectedRow, ...]
    exact_duplicates: int
    near_duplicates: int
    size_bytes: int


@dataclass
class FormatTally:
    """The rows that look like one format."""

    ok: int = 0
    repaired: int = 0
    rejected: int = 0
    repairs: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    first_rejections: list[RejectedRow] = field(default_factory=list)
    first_rows: list[RejectedRow] = field(default_factory=list)
    keys: "array[int]" = field(default_factory=lambda: array("Q"))
    near_keys: "array[int]" = field(default_factory=lambda: array("Q"))

    def add(self, row: ReadRow) -> None:
        """Count a row."""
        if len(self.first_rows) < KEPT_REJECTIONS:
            self.first_rows.append(rejection_of(row))
        if row.verdict is RowVerdict.REJECTED:
            self.rejected += 1
            _count(self.reasons, row.reason)
            if len(self.first_rejections) < KEPT_REJECTIONS:
                self.first_rejections.append(rejection_of(row))
            return
        if row.verdict is RowVerdict.OK:
            self.ok += 1
        else:
            self.repaired += 1
            _count(self.repairs, row.reason)
        self.unread.update(row.unread)
        if row.example is not None:
            self._add_keys(row.example)

    def as_foreign(self, reason: str) -> "FormatTally":
        """Return the tally when every row of it is rejected for being of another format."""
        count = self.ok + self.repaired + self.rejected
        rows = [replace(row, reason=reason) for row in self.first_rows]
        return FormatTally(rejected=count, reasons=Counter({reason: count}), first_rejections=rows)

    def duplicates(self) -> tuple[int, int]:
        """Return the numbers of exact and of near duplicates."""
        distinct, near = _distinct(self.keys), _distinct(self.near_keys)
        return len(self.keys) - distinct, distinct - near

    def _add_keys(self, example: Example) -> None:
        self.keys.append(int.from_bytes(example.key()[:8], "little"))
        self.near_keys.append(int.from_bytes(example.near_key()[:8], "little"))


class ColumnTally:
    """Counts in how many rows each column stands."""

    def __init__(self) -> None:
        self._shapes: Counter[tuple[str, ...]] = Counter()
        self._counts: dict[str, int] = {}

    def add(self, record: dict[str, Any]) -> None:
        """Count a row's columns."""
        self._shapes[tuple(record)] += 1
        if len(self._shapes) >= _KEPT_COLUMNS:
            self._fold()

    def counts(self) -> dict[str, int]:
        """Return the columns in the order in which they were first seen."""
        self._fold()
        return dict(self._counts)

    def _fold(self) -> None:
        for shape, count in self._shapes.items():
            for name in shape:
                if name in self._counts or len(self._counts) < _KEPT_COLUMNS:
                    self._counts[name] = self._counts.get(name, 0) + count
        self._shapes.clear()


def rejection_of(row: ReadRow) -> RejectedRow:
    """Return what a report keeps of a rejected row."""
    return RejectedRow(row.number, row.line, row.offset, row.reason, row.raw[:_KEPT_RAW], row.file)


def majority(evidence: dict[str, int]) -> str:
    """Return the format that most rows look like; of equals the first of FORMATS; UNKNOWN where there is none."""
    known = [form for form in FORMATS if evidence.get(form)]
    return max(known, key=lambda form: evidence[form]) if known else UNKNOWN


def _distinct(keys: "array[int]") -> int:
    import numpy

    return int(numpy.unique(numpy.frombuffer(keys, dtype=numpy.uint64)).size) if keys else 0


def _count(counts: Counter[str], reason: str) -> None:
    general = _PARTICULAR.sub("…", reason)
    counts[general if general in counts or len(counts) < _KEPT_REASONS else "other reasons"] += 1


def merged(counters: Iterable[Counter[str]]) -> dict[str, int]:
    """Return the sum of counts, the most frequent first."""
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return dict(total.most_common())
