"""What is counted of rows while they are tokenized, for checks and lengths; and what a run records of that."""

import json
import zlib
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import Duplicate, Part
from qlora_studio.core.data.row_verdict import ReadRow
from qlora_studio.core.data.source_facts import EvaluationFacts, SourceFacts
from qlora_studio.core.data.split import Flags, RowPlan
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.events import DatasetPrepared
from qlora_studio.engine.data.opened import OpenedData
from qlora_studio.engine.data.tokenized_rows import TokenizedRow
from qlora_studio.engine.templates.message_keys import unused
from qlora_studio.engine.templates.rendering import HOW_WORDS
from qlora_studio.storage.datasets.reader import DatasetReader
from qlora_studio.storage.foreign import read_json

PARTS: tuple[Part, ...] = ("training", "evaluation", "left_out", "duplicate", "not_drawn")
DUPLICATES: tuple[Duplicate, ...] = ("", "exact", "near")
_COLUMNS = ("number", "line", "source", "tokens", "trained", "kept")
_PLANNED = {"part": numpy.int8, "copies": numpy.int16, "repeats": numpy.int8}
_COUNTERS = ("verdicts", "how", "errors", "lost", "changed", "excluded", "added_ends", "variables")
_LARGEST = 64 << 20  # bytes of what is counted
# What flipped bits in a file of counts, or in an archive of arrays, end in.
DAMAGED: tuple[type[Exception], ...] = (OSError, StudioError, ValueError, TypeError, LookupError, ArithmeticError)
DAMAGED += (AttributeError, EOFError, MemoryError, BadZipFile, NotImplementedError, zlib.error)
_KEPT_PROBLEMS = 200
_KEPT_LISTING = 500
_KEPT_UNUSUAL = 200


@dataclass
class RowTally:
    """Counts, and for each row that was read: its number, line, dataset, tokens, trained tokens, and those kept.

    All tokens are counted before the row is cut at the max length, but `kept`. `part` is an index into PARTS, `copies`
    how often a training row is seen in an epoch, `repeats` an index into DUPLICATES. `sources` counts the verdicts of
    each dataset, `unread` by path what nothing of its rows' text comes from, `evaluation` the verdicts of an evaluation
    file. `excluded` counts rows by the keys that the user leaves out. `originals` has the rows that the first repeats
    repeat. `trained_at` holds the changes, from one position in a row to the next, of the number of rows trained there.
    `variables` counts the rows that set each variable of the template, `unread_variables` names those that no template
    reads.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    how: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, Any]] = field(default_factory=list)
    sources: list[dict[str, int]] = field(default_factory=list)
    unread: list[dict[str, int]] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=dict)
    originals: dict[str, int] = field(default_factory=dict)
    control_rows: int = 0
    double_bos: int = 0
    open_ends: int = 0
    doubled_ends: int = 0
    added_ends: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    unprompted: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    dropped_tokens: int = 0
    unlearned: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    variables: Counter[str] = field(default_factory=Counter)
    unread_variables: list[str] = field(default_factory=list)
    excluded: Counter[str] = field(default_factory=Counter)
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
            self.unread.append({})
        self.sources[source][verdict] += 1

    def refuse(self, row: ReadRow, reason: str, *, trainable: bool = True) -> None:
        """Note a row that is left out, and keep the first of them by place; count it where it was read well."""
        if not trainable:
            self.errors[reason] += 1
            self.sources[row.source]["untrainable"] += 1
        if len(self.problems) < _KEPT_PROBLEMS:
            place = {"number": row.number, "source": row.source, "file": row.file, "line": row.line}
            self.problems.append({**place, "offset": row.offset, "reason": reason})

    def leave(self, row: ReadRow, text: str) -> None:
        """Count what nothing of a row's text comes from."""
        counts = self.unread[row.source]
        for path in unused(row, text):
            counts[path] = counts.get(path, 0) + 1

    def add(self, rows: Sequence[tuple[ReadRow, TokenizedRow, int]], bos: int | None) -> None:
        """Count rows that were rendered, each with the number of its trained tokens that are kept."""
        values = [(read.number, read.line, read.source, len(row.ids), row.trained(), kept) for read, row, kept in rows]
        for name, column in zip(_COLUMNS, numpy.array(values, dtype=numpy.int64).reshape(-1, 6).T, strict=True):
            self.columns[name].frombytes(column.tobytes())
        texts = [row.rendered for _, row, _ in rows]
        self.how.update([text.how for text in texts])
        self.variables.update([name for read, _, _ in rows if read.example for name in read.example.variables or ()])
        self.added_ends.update([text.added for text in texts if text.added])
        self.changed.update([change for text in texts for change in text.changed])
        self.dropped_tokens += sum([row.dropped for _, row, _ in rows])
        self.unlearned += sum([text.unlearned for text in texts])
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

    def decide(self, plan: RowPlan, exact: Flags, near: Flags) -> None:
        """Note what becomes of each row that can be trained, and which of them repeat an earlier one."""
        part = numpy.full(len(plan.copies), PARTS.index("training"), dtype=numpy.int8)
        for name, flags in (("evaluation", plan.held_out), ("duplicate", plan.repeats), ("not_drawn", plan.not_drawn)):
            part[flags] = PARTS.index(name)
        repeats = numpy.where(exact, DUPLICATES.index("exact"), near * DUPLICATES.index("near"))
        self.part = self._of_all(part, PARTS.index("left_out"))
        self.copies, self.repeats = self._of_all(plan.copies, 0), self._of_all(repeats, 0)

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
        """Read what `save` wrote. Raises one of DAMAGED where it is not whole."""
        counts = read_json(folder / "tally.json", limit=_LARGEST, inside=folder)
        trained_at = Counter({int(position): change for position, change in counts["trained_at"].items()})
        counters = {name: Counter(counts[name]) for name in _COUNTERS}
        with (folder / "rows.npz").open("rb") as file, numpy.load(file) as arrays:
            columns = {name: array("q", arrays[name].tobytes()) for name in _COLUMNS}
            planned = {name: arrays[name] for name in _PLANNED}
            return cls(**{**counts, **counters, **planned, "trained_at": trained_at, "columns": columns})

    def _of_all(self, values: Any, other: int) -> Any:
        """Return values of the rows that can be trained as values of all rows counted; the rest gets `other`."""
        whole = numpy.full(len(self.columns["number"]), other, dtype=numpy.asarray(values).dtype)
        whole[self.column("kept") > 0] = values
        return whole


def facts_of(tally: RowTally, config: RunConfig, opened: OpenedData) -> DatasetPrepared:
    """Return the facts of a run. Tokens are those of the training rows of an epoch, after the cut."""
    training = tally.mine("training")
    lengths = numpy.minimum(tally.column("tokens"), config.training.max_length)
    own = opened.evaluation
    return DatasetPrepared(
        training_rows=int(training.sum()),
        evaluation_rows=tally.evaluation["used"] if own else int(tally.mine("evaluation").sum()),
        rejected_rows=tally.verdicts["rejected"] + tally.untrainable,
        tokens=int((lengths * tally.copies).sum()),
        trained_tokens=int((tally.column("kept") * tally.copies).sum()),
        longest=int(lengths[training].max(initial=0)),
        mask=", ".join(HOW_WORDS[how] for how, _ in tally.how.most_common()),
        rows_per_epoch=int(tally.copies.sum()),
        repaired_rows=tally.verdicts["repaired"],
        excluded_rows=tally.excluded.total(),
        dropped_rows=int(tally.mine("duplicate").sum()),
        bad_rows=config.data.bad_rows,
        duplicates=config.data.duplicates,
        sources=[_source(index, tally, lengths, opened) for index in range(len(opened.training.readers))],
        evaluation=_evaluation(tally, opened),
    )


def _source(index: int, tally: RowTally, lengths: Any, opened: OpenedData) -> SourceFacts:
    reader = opened.training.readers[index]
    mine = tally.column("source") == index
    verdicts = tally.sources[index] if index < len(tally.sources) else {}
    parts = {name: int((tally.mine(name) & mine).sum()) for name in ("training", "evaluation", "not_drawn")}
    return SourceFacts(
        name=opened.training.names[index],
        **_place(reader),
        weight=reader.source.weight,
        **verdicts,
        **parts,
        dropped=int((tally.mine("duplicate") & mine).sum()),
        seen=int(tally.copies[mine].sum()),
        tokens=int((lengths * tally.copies)[mine].sum()),
        trained_tokens=int((tally.column("kept") * tally.copies)[mine].sum()),
    )


def _evaluation(tally: RowTally, opened: OpenedData) -> EvaluationFacts | None:
    if opened.evaluation is None:
        return None
    counts = {name: count for name, count in tally.evaluation.items() if name != "problems"}
    return EvaluationFacts(name=opened.evaluation.names[0], **_place(opened.evaluation.readers[0]), **counts)


def _place(reader: DatasetReader) -> dict[str, str]:
    found = reader.found
    return {"path": reader.source.path, "subset": found.subset, "split": found.split, "commit": found.commit}
