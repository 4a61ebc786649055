"""`compare`: runs side by side, what differs of their settings and what came of each."""

import argparse
from collections.abc import Sequence
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.train_command import existing_run
from qlora_studio.core.comparison.comparison import ComparedRow, Comparison, compare
from qlora_studio.core.comparison.run_record import RunRecord
from qlora_studio.core.errors import ExitCode
from qlora_studio.storage.run_care.run_reading import RunReadings

_WIDEST = 48  # letters of a value
_LETTERS = 600  # of an answer


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `compare`."""
    parser = commands.add_parser(
        "compare",
        parents=[shared],
        help="lay runs side by side",
        description="Lay runs side by side: the settings that differ, what came of each, time and memory, answers to "
        "the same prompts, data and versions. Nothing of them is changed.",
    )
    parser.add_argument("run_dirs", metavar="RUN_DIR", nargs="+", help="runs, by their folders or names")
    parser.add_argument("--all", action="store_true", help="also what is the same in all runs")
    parser.set_defaults(run=compare_runs, only_looks=True)


def compare_runs(arguments: argparse.Namespace, console: Console) -> int:
    """Print the comparison of runs."""
    console.if_interrupted("Nothing was changed.")
    folders = [existing_run(named) for named in arguments.run_dirs]
    readings = RunReadings()
    records = [readings.read(str(folder.path)) for folder in folders]
    comparison = compare(records)
    console.report(_facts(records, comparison))
    console.result(*_lines(comparison, everything=arguments.all))
    return ExitCode.OK


def _facts(records: Sequence[RunRecord], comparison: Comparison) -> dict[str, Any]:
    runs = [{"name": name, "run_dir": record.path} for name, record in zip(comparison.names, records, strict=True)]
    rows = {group.key: [_row_facts(row) for row in group.rows] for group in comparison.groups}
    answers = [
        {
            "prompt": item.prompt,
            "answers": [{"step": told[0], "answer": told[1]} if told else None for told in item.answers],
        }
        for item in comparison.answers
    ]
    return {"runs": runs, **rows, "answers": answers, "caution": comparison.caution or None}


def _row_facts(row: ComparedRow) -> dict[str, Any]:
    return {"name": row.path, "title": row.title, "differs": row.differs, "values": [_plain(v) for v in row.values]}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: parts of the run config and of events are models."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _lines(comparison: Comparison, *, everything: bool) -> list[str]:
    """Return a table of all groups, and the answers below it."""
    shown = [(group.title, group.shown(everything=everything)) for group in comparison.groups]
    names = [_cut(name) for name in comparison.names]
    rows = [row for _, rows in shown for row in rows]
    first = max((len(row.title) for row in rows), default=0) + 2
    cells = [[_cut(row.texts[index] + _mark(row, index)) for row in rows] for index in range(len(names))]
    widths = [max(map(len, (name, *texts))) for name, texts in zip(names, cells, strict=True)]
    lines = [_line("", names, first, widths)]
    for title, group_rows in shown:
        lines += ["", title] if group_rows else ["", f"{title}: the same in all"]
        for row in group_rows:
            texts = [_cut(text + _mark(row, index)) for index, text in enumerate(row.texts)]
            lines.append(_line(f"  {row.title}", texts, first, widths))
    lines += ["", comparison.caution] if comparison.caution else []
    for item in comparison.answers:
        lines += ["", f"Asked: {_cut(item.prompt, _LETTERS)}"]
        for name, told in zip(comparison.names, item.answers, strict=True):
            lines.append(f"  {name}: " + (f"(step {told[0]:,}) {_cut(told[1], _LETTERS)}" if told else "–"))
    return lines


def _mark(row: ComparedRow, index: int) -> str:
    return " (best)" if index in row.best else ""


def _line(title: str, texts: Sequence[str], first: int, widths: Sequence[int]) -> str:
    cells = "  ".join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))
    return f"{title:{first}}  {cells}".rstrip()


def _cut(text: str, letters: int = _WIDEST) -> str:
    """Return a text in one line, the middle left out where it is long: names and paths differ at their ends."""
    line = " ".join(text.split())
    half = (letters - 1) // 2
    return line if len(line) <= letters else f"{line[:half]}…{line[-half:]}"
