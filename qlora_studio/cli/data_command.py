"""`preview` and `check-data`: what would be trained, token by token, and what is wrong with a dataset."""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.job_session import run_job
from qlora_studio.cli.run_source import add_run_source, run_config
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import (
    DataReport,
    Neighbour,
    Rejection,
    RowPreview,
    RowsReport,
    SourceReport,
    check_json,
    preview_json,
)
from qlora_studio.core.data.template_variables import variables_text
from qlora_studio.core.errors import ExitCode, InvalidRunConfig, Problem, StudioError
from qlora_studio.core.quantity import counted
from qlora_studio.core.run.job import DataJob
from qlora_studio.core.run.reports import DatasetReported, RowsReported
from qlora_studio.jobs.known_report import keep_report, known_report, report_place

_NEIGHBOURS_SHOWN = 12


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `preview` and `check-data`."""
    preview = commands.add_parser(
        "preview",
        parents=[shared],
        help="show rows exactly as they would be trained",
        description="Show rows as they would be trained: the rendered text, and which of it is trained. "
        "Built by the code that trains.",
    )
    add_run_source(preview)
    preview.add_argument("--rows", type=int, default=3, metavar="N", help="how many rows (default: 3)")
    preview.set_defaults(run=preview_rows)
    check = commands.add_parser(
        "check-data",
        parents=[shared],
        help="check a dataset, row by row",
        description="Read every row of a dataset, say which ones are rejected and why, and check what would be "
        "trained. Ends with exit code 24 where a run would be refused.",
    )
    check.add_argument("data", nargs="+", metavar="FILE", help="a dataset: a file, a folder, or owner/name on the hub")
    check.add_argument("--weights", metavar="W,W…", default="", help="the weight of each FILE, such as 1,0.5")
    check.add_argument("--model", metavar="M", help="check against this model's template and tokenizer")
    check.add_argument("--set", action="append", default=[], dest="overrides", metavar="SECTION.FIELD=VALUE")
    check.add_argument(
        "--problems", metavar="FILE", help="write every row that is not simply taken to FILE, a JSON object a line"
    )
    check.set_defaults(run=check_data, run_file=None, preset=None)


def preview_rows(arguments: argparse.Namespace, console: Console) -> int:
    """Print rows with what is trained in brackets."""
    config = run_config(arguments)
    if not config.model.source:
        raise InvalidRunConfig((Problem("model.source", "Choose a base model with --model."),))
    report, rows = _inspect(config, list(range(max(0, arguments.rows))), console)
    console.report(preview_json(report, rows))
    if not report.supported:
        console.result(f"The answers cannot be told exactly: {report.reason}")
    for row in rows.rows:
        console.result(*_row_lines(row))
    return ExitCode.OK


def check_data(arguments: argparse.Namespace, console: Console) -> int:
    """Print counts, rejections and checks."""
    report = _checked(run_config(arguments), console)
    if arguments.problems:
        with console.interruption.held():
            _write_problems(report, Path(arguments.problems))
            console.if_interrupted(f"{arguments.problems} is written.")
    console.report(check_json(report))
    console.result(*_check_lines(report))
    if report.refused:
        console.say(f"A run would be refused: {report.refused}")
        return ExitCode.DATA_REFUSED
    return ExitCode.OK


def _checked(config: RunConfig, console: Console) -> DataReport:
    """Return the report on a config's datasets: as it was told before, or by a worker."""
    place = report_place(config)
    if (known := known_report(place)) is not None:
        return known
    report, _ = _inspect(config, [], console)
    keep_report(place, report, config)
    return report


def _write_problems(report: DataReport, path: Path) -> None:
    """Copy the verdicts of a dataset: file, line, verdict and reason of every row that is not simply taken."""
    try:
        shutil.copyfile(report.verdicts_path, path)
    except OSError as error:
        raise StudioError(
            f"Cannot write {path}: {error.strerror or error}.", advice="Choose another file for --problems."
        ) from error


def _inspect(config: RunConfig, rows: list[int | str], console: Console) -> tuple[DataReport, RowsReport]:
    if not config.data.path:
        raise InvalidRunConfig((Problem("data.path", "Choose a dataset with --data."),))
    state = run_job(DataJob(config=config, rows=rows), console)
    reports = [item.report for item in state.reports if isinstance(item, DatasetReported)]
    shown = [item.report for item in state.reports if isinstance(item, RowsReported)]
    if not reports:
        raise StudioError("The worker told nothing of the dataset.")
    return reports[-1], shown[-1] if shown else RowsReport()


def _row_lines(row: RowPreview) -> list[str]:
    place = ", ".join(dict.fromkeys(part for part in (row.dataset, row.file) if part))
    head = f"── row {row.number + 1}, {f'{place}, ' if place else ''}line {row.line}"
    head += f", key {row.key}: {row.verdict}" if row.key else f": {row.verdict}"
    head += f": {row.problem or row.reason}" if row.problem or row.reason else ""
    if not row.tokens:
        return [head, *row.raw.split("\n")]
    text, inside = "", False
    for piece in row.tokens:
        if piece.trained != inside:
            text += "⟦" if piece.trained else "⟧"
            inside = piece.trained
        text += piece.string
    text += "⟧" if inside else ""
    variables = [f"   with {variables_text(row.variables)}"] if row.variables else []
    remarks = [f"   {remark}" for remark in row.remarks]
    head += f", {counted(len(row.tokens), 'token')}, {row.trained:,} trained ⟦so⟧"
    return [head, *_pack_lines(row), *variables, *remarks, *text.split("\n")]


def _pack_lines(row: RowPreview) -> list[str]:
    if row.pack is None:
        return []
    named = ((word, part) for word, part in (("behind", row.pack.before), ("before", row.pack.after)) if part)
    where = ", ".join(f"{word} {_row_numbers(part)}" for word, part in named) or "alone"
    return [f"   in pack {row.pack.number + 1} of {row.pack.packs}, {counted(row.pack.tokens, 'token')}, {where}"]


def _row_numbers(rows: tuple[Neighbour, ...]) -> str:
    shown = " ".join(str(row.number + 1) for row in rows[:_NEIGHBOURS_SHOWN])
    more = len(rows) - _NEIGHBOURS_SHOWN
    return f"row{'' if len(rows) == 1 else 's'} {shown}{f' and {more} more' if more > 0 else ''}"


def _check_lines(report: DataReport) -> list[str]:
    rows = report.rows
    lines = [
        f"{report.path}: {report.format or 'no format'}, {counted(rows.total, 'row')}, {rows.ok:,} ok, "
        f"{rows.repaired:,} repaired, {rows.rejected:,} rejected"
        + (f", {rows.excluded:,} left out by hand" if rows.excluded else "")
    ]
    for source in report.sources:
        if source.mixed:
            looks = ", ".join(f"{count:,} {form or 'unknown'}" for form, count in source.evidence.items())
            lines.append(f"  {source.name} is mixed: {looks}; it is read as {source.format}")
        if source.unread:
            paths = ", ".join(f"{path} ({counted(count, 'row')})" for path, count in source.unread.items())
            lines.append(f"  nothing is learned from this of {source.name}: {paths}")
        if source.proposed:
            mapping = json.dumps(source.proposed, ensure_ascii=False)
            lines.append(f"  {source.name} can be read with --set data.mapping='{mapping}'")
    if len(report.sources) > 1:
        lines += [_source_text(source) for source in report.sources]
    lines += [f"  {_place(item)}: {item.reason}" for item in report.rejections[:20]]
    lines += [f"  {'ok  ' if check.passed else 'FAIL'} {check.title}: {check.message}" for check in report.checks]
    if report.lengths:
        half, most = report.lengths.quantiles.get("50"), report.lengths.longest
        lines.append(f"  lengths: half of the rows have at most {half} tokens, the longest {most:,}")
    return lines


def _place(item: Rejection) -> str:
    offset = f", byte {item.offset}" if item.offset >= 0 else ""
    return f"{item.dataset or item.file} line {item.line}{offset}".strip()


def _source_text(source: SourceReport) -> str:
    parts = [
        f"{count:,} {words}"
        for count, words in (
            (source.ok, "ok"),
            (source.repaired, "repaired"),
            (source.rejected, "rejected"),
            (source.dropped, "dropped as duplicates"),
            (source.not_drawn, "not drawn"),
            (source.evaluation, "held out"),
            (source.seen, "rows an epoch"),
        )
        if count
    ]
    return f"  {source.name} × {source.weight:g}: {source.format or 'no format'}, {', '.join(parts)}"
