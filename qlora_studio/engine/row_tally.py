"""What is counted of a dataset's rows while they are tokenized: the source of its checks and lengths."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from qlora_studio.engine.tokenized_rows import TokenizedRow

PARTS = ("training", "evaluation", "left_out")
_COLUMNS = ("number", "line", "tokens", "trained", "kept")
_KEPT_PROBLEMS = 200


@dataclass
class RowTally:
    """Counts, and for each row that was read: its number, line, tokens, trained tokens, and trained tokens kept.

    All tokens are counted before the row is cut at the max length, but `kept`. `part` is an index into PARTS.
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
    columns: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in _COLUMNS})
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
        self.double_bos += bos is not None and row.ids[:2] == [bos, bos]

    def column(self, name: str) -> Any:
        """Return a column as int64, one value for each row that was rendered."""
        return numpy.asarray(self.columns[name], dtype=numpy.int64)

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
        counters = {name: Counter(counts[name]) for name in ("verdicts", "how", "errors")}
        with numpy.load(folder / "rows.npz") as arrays:
            columns = {name: arrays[name].tolist() for name in _COLUMNS}
            return cls(**{**counts, **counters, "columns": columns, "part": arrays["part"]})
