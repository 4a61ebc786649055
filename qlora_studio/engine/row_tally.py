"""What is counted of a dataset's rows while they are tokenized: the source of its checks and lengths."""

import json
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from qlora_studio.core.data_report import Part
from qlora_studio.engine.tokenized_rows import TokenizedRow

PARTS: tuple[Part, ...] = ("training", "evaluation", "left_out")
_COLUMNS = ("number", "line", "tokens", "trained", "kept")
_KEPT_PROBLEMS = 200
_KEPT_LISTING = 500


@dataclass
class RowTally:
    """Counts, and for each row that was read: its number, line, tokens, trained tokens, and trained tokens kept.

    All tokens are counted before the row is cut at the max length, but `kept`. `part` is an index into PARTS.
    `trained_at` holds the changes, from one position in a row to the next, of the number of rows trained there.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    how: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, Any]] = field(default_factory=list)
    duplicates: int = 0
    control_rows: int = 0
    double_bos: int = 0
    open_ends: int = 0
    added_ends: int = 0
    hidden: int = 0
    unprompted: int = 0
    folded: int = 0
    listing: list[dict[str, Any]] = field(default_factory=list)
    trained_at: Counter[int] = field(default_factory=Counter)
    columns: "dict[str, array[int]]" = field(default_factory=lambda: {name: array("q") for name in _COLUMNS})
    part: Any = None

    def refuse(self, number: int, line: int, offset: int, reason: str, *, count: str | None = None) -> None:
        """Count a row that is left out, and keep the first of them by place."""
        if count is not None:
            self.errors[count] += 1
        if len(self.problems) < _KEPT_PROBLEMS:
            self.problems.append({"number": number, "line": line, "offset": offset, "reason": reason})

    def add(self, number: int, line: int, row: TokenizedRow, max_length: int, bos: int | None) -> None:
        """Count a row that was rendered."""
        values = (number, line, len(row.ids), row.trained(), row.trained(max_length))
        for name, value in zip(_COLUMNS, values, strict=True):
            self.columns[name].append(value)
        self.how[row.rendered.how] += 1
        self.open_ends += not row.rendered.ended
        self.added_ends += bool(row.rendered.added)
        self.folded += row.rendered.folded
        self.unprompted += not row.rendered.prompted
        for first, last in row.runs:  # a token later than `first` is one more trained, later than `last` one less
            self.trained_at[first] += 1
            self.trained_at[last] -= 1
        self.double_bos += bos is not None and row.ids[:2] == [bos, bos]

    def list_row(self, **row: Any) -> None:
        """Keep a line for the table of rows, of the first rows."""
        if len(self.listing) < _KEPT_LISTING:
            self.listing.append(row)

    def trained_by_position(self) -> Any:
        """Return how many rows have a trained token at each position, as int64."""
        changes = numpy.zeros(max(self.trained_at, default=0) + 1, dtype=numpy.int64)
        for position, change in self.trained_at.items():
            changes[position] += change
        return numpy.cumsum(changes)

    def column(self, name: str) -> Any:
        """Return a column as int64, one value for each row that was rendered."""
        return numpy.array(self.columns[name], dtype=numpy.int64)

    def part_of(self, number: int) -> Part:
        """Return which part the row of a number belongs to."""
        numbers = self.columns["number"]
        index = bisect_left(numbers, number)
        found = index < len(numbers) and numbers[index] == number
        return PARTS[int(self.part[index])] if found else "left_out"

    @property
    def untrainable(self) -> int:
        """Rows that were read and cannot be trained."""
        return sum(self.errors.values())

    def save(self, folder: Path) -> None:
        """Write the tally into a folder."""
        arrays = {name: self.column(name) for name in _COLUMNS}
        numpy.savez_compressed(folder / "rows.npz", part=numpy.asarray(self.part, dtype=numpy.int8), **arrays)
        counts = {name: value for name, value in vars(self).items() if name not in ("columns", "part")}
        (folder / "tally.json").write_text(json.dumps(counts), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "RowTally":
        """Read what `save` wrote. Raises OSError, ValueError or KeyError where it is not whole."""
        counts: Mapping[str, Any] = json.loads((folder / "tally.json").read_text("utf-8"))
        trained_at = Counter({int(position): change for position, change in counts["trained_at"].items()})
        counters = {name: Counter(counts[name]) for name in ("verdicts", "how", "errors")}
        with numpy.load(folder / "rows.npz") as arrays:
            columns = {name: array("q", arrays[name].tobytes()) for name in _COLUMNS}
            return cls(**{**counts, **counters, "trained_at": trained_at, "columns": columns, "part": arrays["part"]})
