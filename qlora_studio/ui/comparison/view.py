"""What the comparison page says, as values: its heading, the lines of its table, and which curves there are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qlora_studio.core.comparison.comparison import ComparedRow, Comparison
from qlora_studio.core.comparison.run_record import HELD_OUT, Curve, RunRecord
from qlora_studio.core.config.run_config import all_settings
from qlora_studio.core.run.metric import METRICS
from qlora_studio.core.words import say, say_count

AXES = {"step": say("steps"), "tokens": say("tokens read"), "hours": say("hours of training")}
_MOST_NAMED = 4
_UNITS = {info.path: info.unit for info in all_settings() if info.unit}
_WORD_END = re.compile(r"(?<= )|(?<=[^\W\d][-_])(?=[^\W\d])")  # not within a number such as 1e-4
_NO_SETTINGS = say("All settings are the same.")


@dataclass(frozen=True)
class TableLine:
    """A line of the table: a heading of its group where it has no cells, else a fact of each run.

    `other` says which cells are not what the first run has; `marked` whether the line is to be marked as differing.
    """

    title: str
    cells: tuple[str, ...] = ()
    tip: str = ""
    best: tuple[int, ...] = ()
    other: tuple[bool, ...] = ()
    marked: bool = False

    @property
    def is_heading(self) -> bool:
        """Whether it is the heading of a group."""
        return not self.cells


def heading(comparison: Comparison, waiting: int) -> tuple[str, str]:
    """Return the heading and the line below it; `waiting` runs are still being read."""
    count = len(comparison.names)
    if waiting:
        return say("Compare {runs}", runs=say_count(count + waiting, "{count:,} run", "{count:,} runs")), say(
            "Reading: {count} of {total} …", count=count, total=count + waiting
        )
    if not count:
        return say("Compare runs"), say("Choose runs to lay side by side.")
    rows = comparison.group("settings").shown(everything=False)
    titles = ", ".join(row.title for row in rows[:_MOST_NAMED])
    if (more := len(rows) - _MOST_NAMED) > 0:
        titles = say("{names} and {more} more", names=titles, more=more)
    words = say("They differ in {titles}.", titles=titles) if titles else _NO_SETTINGS
    return say("Compare {runs}", runs=say_count(count, "{count:,} run", "{count:,} runs")), words if count > 1 else ""


def short_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names without the words that all of them begin with, where each has more than these."""
    words = [_WORD_END.split(name) for name in names]
    shared = 0
    while len(names) > 1 and all(len(item) > shared + 1 and item[shared] == words[0][shared] for item in words):
        shared += 1
    return tuple("".join(item[shared:]) for item in words)


def table_lines(comparison: Comparison, *, everything: bool) -> tuple[TableLine, ...]:
    """Return the lines of the table: each group that has something to show, below its heading."""
    lines: list[TableLine] = []
    for group in comparison.groups:
        rows = group.shown(everything=everything)
        if rows:
            marks = everything and not group.results
            title = group.title if everything or group.results else say("{title}, what differs", title=group.title)
            lines += [TableLine(title), *(_line(row, results=group.results, marked=marks) for row in rows)]
    return tuple(lines)


def table_text(names: Sequence[str], lines: Sequence[TableLine]) -> str:
    """Return the table with tabs between its cells, as spreadsheets take it."""
    rows = [("", *names), *((line.title, *line.cells) for line in lines)]
    return "\n".join("\t".join(" ".join(cell.split()) for cell in row) for row in rows)


def metric_titles(records: Sequence[RunRecord]) -> dict[str, str]:
    """Return the metrics of which some run has a curve, the held-out loss first, with their words."""
    titles = {HELD_OUT: say("Held-out loss")} | {
        key: say("Training loss") if metric.loss else metric.title for key, metric in METRICS.items()
    }
    return {key: words for key, words in titles.items() if any(_has_values(record, key) for record in records)}


def unit_of(key: str) -> str:
    """Return the unit of a metric, empty where it has none."""
    return METRICS[key].unit if key in METRICS else ""


def curve_of(record: RunRecord, key: str) -> Curve | None:
    """Return a run's curve of a metric, None where it has no value."""
    return record.curves[key] if _has_values(record, key) else None


def _has_values(record: RunRecord, key: str) -> bool:
    curve = record.curves.get(key)
    return curve is not None and bool((curve.raw == curve.raw).any())


def _line(row: ComparedRow, *, results: bool, marked: bool) -> TableLine:
    """Return the line of a row; a setting's unit stands beside its title, once for all runs."""
    other = tuple(not results and text != row.texts[0] for text in row.texts)
    title, cells = row.title, row.texts
    if unit := _UNITS.get(row.path, ""):
        title = say("{title} ({unit})", title=title, unit=unit)
        cells = tuple(text.removesuffix(f" {unit}") for text in cells)
    return TableLine(title, cells, row.tip, row.best, other, marked and row.differs)
