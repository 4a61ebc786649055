"""What is counted of a dataset's rows while they are tokenized: the source of its checks and lengths."""

import json
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from qlora_studio.core.data.example import Example
from qlora_studio.core.data.report import Duplicate, Part
from qlora_studio.core.data.row_verdict import ReadRow
from qlora_studio.core.data.split import Keys
from qlora_studio.engine.data.tokenized_rows import TokenizedRow

PARTS: tuple[Part, ...] = ("training", "evaluation", "left_out", "duplicate", "not_drawn")
DUPLICATES: tuple[Duplicate, ...] = ("", "exact", "near")
_COLUMNS = ("number", "line", "source", "tokens", "trained", "kept")
_PLANNED = {"part": numpy.int8, "copies": numpy.int16, "repeats": numpy.int8}
_COUNTERS = ("verdicts", "how", "errors", "lost")
_KEPT_PROBLEMS = 200
_KEPT_LISTING = 500
_KEPT_UNUSUAL = 200


@dataclass
class RowTally:
    """Counts, and for each row that was read: its number, line, dataset, tokens, trained tokens, and those kept.

    All tokens are counted before the row is cut at the max length, but `kept`. `part` is an index into PARTS, `copies`
    how often a training row is seen in an epoch, `repeats` an index into DUPLICATES. `sources` counts the verdicts of
    each dataset, `evaluation` those of an evaluation file. `originals` has the rows that the first repeats repeat.
    `trained_at` holds the changes, from one position in a row to the next, of the number of rows trained there.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    how: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, Any]] = field(default_factory=list)
    sources: list[dict[str, int]] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=dict)
    originals: dict[str, int] = field(default_factory=dict)
    control_rows: int = 0
    double_bos: int = 0
    open_ends: int = 0
    added_ends: int = 0
    hidden: int = 0
    unprompted: int = 0
    folded: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    listing: list[dict[str, Any]] = field(default_factory=list)
    trained_at: Counter[int] = field(default_factory=Counter)
    columns: "dict[str, array[int]]" = field(default_factory=lambda: {name: array("q") for name in _COLUMNS})
    part: Any = None
    copies: Any = None
    repeats: Any = None
    _listed: Counter[str] = field(default_factory=Counter)

    def read(self, source: int, verdict: str) -> None:
        """Count a row's verdict."""
        self.verdicts[verdict] += 1
        while len(self.sources) <= source:
            self.sources.append({"ok": 0, "repaired": 0, "rejected": 0, "untrainable": 0})
        self.sources[source][verdict] += 1

    def refuse(self, row: ReadRow, reason: str, *, trainable: bool = True) -> None:
        """Note a row that is left out, and keep the first of them by place; count it where it was read well."""
        if not trainable:
            self.errors[reason] += 1
            self.sources[row.source]["untrainable"] += 1
        if len(self.problems) < _KEPT_PROBLEMS:
            place = {"number": row.number, "source": row.source, "file": row.file, "line": row.line}
            self.problems.append({**place, "offset": row.offset, "reason": reason})

    def add(self, rows: Sequence[tuple[ReadRow, TokenizedRow, int]], bos: int | None) -> None:
        """Count rows that were rendered, each with the number of its trained tokens that are kept."""
        values = [(read.number, read.line, read.source, len(row.ids), row.trained(), kept) for read, row, kept in rows]
        for name, column in zip(_COLUMNS, numpy.array(values, dtype=numpy.int64).reshape(-1, 6).T, strict=True):
            self.columns[name].frombytes(column.tobytes())
        texts = [row.rendered for _, row, _ in rows]
        self.how.update([text.how for text in texts])
        self.open_ends += sum([not text.ended for text in texts])
        self.added_ends += sum([text.added != "" for text in texts])
        self.folded += sum([text.folded for text in texts])
        self.lost.update([part for text in texts for part in text.lost])
        self.unprompted += sum([not text.prompted for text in texts])
        runs = [run for _, row, _ in rows for run in row.runs]
        self.trained_at.update([first for first, _ in runs])  # a token later than `first` is one more trained,
        self.trained_at.subtract([last for _, last in runs])  # later than `last` one less
        self.double_bos += bos is not None and sum([row.ids[:2] == [bos, bos] for _, row, _ in rows])

    def lists(self, row: ReadRow) -> bool:
        """Whether the table of rows may have room for this row."""
        return row.verdict != "ok" or self._listed.total() < _KEPT_LISTING

    def list_row(self, row: ReadRow, **more: Any) -> None:
        """Keep a line for the table of rows: of the first rows, and of the first of each unusual verdict."""
        self._listed[str(row.verdict)] += 1
        unusual = row.verdict != "ok" and self._listed[str(row.verdict)] <= _KEPT_UNUSUAL
        if unusual or sum(self._listed.values()) <= _KEPT_LISTING:
            place = {"number": row.number, "source": row.source, "file": row.file, "line": row.line}
            self.listing.append({**place, "verdict": str(row.verdict), "reason": row.reason, **more})

    def line_at(self, index: int, words: str) -> dict[str, Any]:
        """Return the line for the table of rows of a row that was counted, by its place in the columns."""
        line: dict[str, Any] = {name: self.columns[name][index] for name in ("number", "line", "source", "tokens")}
        return {**line, "verdict": "ok", "trained": self.columns["kept"][index], "words": words}

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

    def duplicate_of(self, number: int) -> Duplicate:
        """Return whether the row of a number repeats an earlier one, exactly or nearly."""
        index = bisect_left(self.columns["number"], number)
        found = index < len(self.columns["number"]) and self.columns["number"][index] == number
        return DUPLICATES[int(self.repeats[index])] if found else ""

    def mine(self, part: Part) -> Any:
        """Return the flags of the rows of a part."""
        return numpy.asarray(self.part) == PARTS.index(part)

    @property
    def duplicates(self) -> int:
        """Rows that can be trained and equal an earlier one."""
        return int((self.repeats == DUPLICATES.index("exact")).sum())

    @property
    def near_duplicates(self) -> int:
        """Rows that can be trained, and equal an earlier one but for case, white space and punctuation."""
        return int((self.repeats == DUPLICATES.index("near")).sum())

    @property
    def untrainable(self) -> int:
        """Rows that were read and cannot be trained."""
        return sum(self.errors.values())

    def save(self, folder: Path) -> None:
        """Write the tally into a folder."""
        arrays = {name: self.column(name) for name in _COLUMNS}
        arrays |= {name: numpy.asarray(getattr(self, name), dtype=kind) for name, kind in _PLANNED.items()}
        numpy.savez_compressed(folder / "rows.npz", **arrays)
        left_out = ("columns", "_listed", *_PLANNED)
        counts = {name: value for name, value in vars(self).items() if name not in left_out}
        (folder / "tally.json").write_text(json.dumps(counts), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "RowTally":
        """Read what `save` wrote. Raises OSError, ValueError or KeyError where it is not whole."""
        counts: Mapping[str, Any] = json.loads((folder / "tally.json").read_text("utf-8"))
        trained_at = Counter({int(position): change for position, change in counts["trained_at"].items()})
        counters = {name: Counter(counts[name]) for name in _COUNTERS}
        with numpy.load(folder / "rows.npz") as arrays:
            columns = {name: array("q", arrays[name].tobytes()) for name in _COLUMNS}
            planned = {name: arrays[name] for name in _PLANNED}
            return cls(**{**counts, **counters, **planned, "trained_at": trained_at, "columns": columns})


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
