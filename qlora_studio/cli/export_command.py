"""`merge`, `export` and `verify`: what was learned, in the shape that other programs take, and the proof of it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from qlora_studio.cli.console import Console
from qlora_studio.cli.job_session import run_job
from qlora_studio.cli.train_command import existing_run
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.core.path_text import is_there, whole_path
from qlora_studio.core.quantity import bytes_text, duration_text
from qlora_studio.core.run.job import ExportJob, MergeJob, VerifyJob
from qlora_studio.core.run.reports import ExportFacts, FormatCheck, VerificationReported
from qlora_studio.core.run.run_state import RunState
from qlora_studio.storage.runs.export_folder import exports_of
from qlora_studio.storage.runs.run_folder import RunFolder


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `merge`, `export` and `verify`."""
    merge = commands.add_parser(
        "merge",
        parents=[shared],
        help="merge a run's adapter into its 16-bit base",
        description="Merge a run's adapter into its base and write safetensors that transformers, vLLM and TGI load; "
        "then prove them. With --base-model and --adapter, merge an adapter made elsewhere.",
    )
    _add_options(merge, needs_run=False)
    merge.add_argument("--base-model", metavar="M", help="base of an adapter made elsewhere: folder, hub id or .gguf")
    merge.add_argument("--adapter", metavar="DIR", help="folder of an adapter made elsewhere")
    merge.set_defaults(run=merge_run)
    export = commands.add_parser(
        "export",
        parents=[shared],
        help="write a run's model in other formats",
        description="Write a run's model as safetensors, GGUF, for Ollama, or as the adapter alone.",
    )
    _add_options(export)
    export.add_argument(
        "--to",
        default="safetensors",
        metavar="FORMATS",
        help="safetensors, gguf:q8_0, ollama, adapter, text_model; with commas",
    )
    export.add_argument(
        "--importance-matrix",
        choices=["auto", "on", "off"],
        default="auto",
        help="round a GGUF of few bits by what matters on the held-out rows (default: auto, below q5)",
    )
    export.set_defaults(run=export_run)
    verify = commands.add_parser(
        "verify",
        parents=[shared],
        help="prove that an export is right",
        description="Load an export in a fresh process and compare it with the run it came from: files, numbers, "
        "template, answers. Ends with exit code 31 where a check fails.",
    )
    verify.add_argument("path", metavar="DIR", help="the export's folder")
    verify.add_argument(
        "--run", dest="run_dir", metavar="RUN_DIR", help="the run it came from (default: it is looked for)"
    )
    verify.add_argument(
        "--bases", action="store_true", help="also compare merging into the original and the 4-bit base"
    )
    verify.add_argument(
        "--way",
        choices=["auto", "whole", "streamed"],
        default="auto",
        help="have models in memory whole, or layer by layer (default: auto, by their size)",
    )
    verify.set_defaults(run=verify_export)


def merge_run(arguments: argparse.Namespace, console: Console) -> int:
    """Merge into 16-bit safetensors: a run's adapter, or one made elsewhere."""
    if arguments.base_model or arguments.adapter:
        return _merge_foreign(arguments, console)
    if not arguments.run_dir:
        raise StudioError("Name a run's folder, or give --base-model and --adapter.", kind=FailureKind.USAGE)
    return _export(arguments, ["safetensors"], "auto", console)


def export_run(arguments: argparse.Namespace, console: Console) -> int:
    """Export to each of the formats named."""
    formats = [word.strip() for word in arguments.to.split(",") if word.strip()]
    return _export(arguments, formats, arguments.importance_matrix, console)


def verify_export(arguments: argparse.Namespace, console: Console) -> int:
    """Check an export, and say which of the checks it passed."""
    path = export_folder(arguments.path)
    run_dir = str(existing_run(arguments.run_dir).path.resolve()) if arguments.run_dir else ""
    state = run_job(
        VerifyJob(path=str(path.resolve()), run_dir=run_dir, bases=arguments.bases, way=arguments.way), console
    )
    reports = [item.report for item in state.reports if isinstance(item, VerificationReported)]
    facts = _facts(state)
    proof = {"out_dir": facts.out_dir, "verified": facts.verified, "checks": _plain(facts.checks)}
    console.report({**(reports[0].model_dump() if reports else {}), **proof})
    for check in facts.checks:
        console.result(_check_text(check))
    for ends in (report.ends for report in reports if report.ends is not None):
        console.result(f"{ends.words} {ends.warning}".strip())
    return ExitCode.OK if facts.verified else ExitCode.NOT_VERIFIED


def export_folder(named: str) -> Path:
    """Return the folder of an export. Raises StudioError where there is none; where it is a run's, with its exports."""
    path = whole_path(named)
    if not path.is_dir():
        raise StudioError(
            f"There is no folder {path}.", kind=FailureKind.RUN_NOT_FOUND, advice="Name the folder of an export."
        )
    run = RunFolder(path)
    if run.config_path.is_file():
        exports = ", ".join(str(place) for place, _ in exports_of(run.exports_path))
        none = "It has none yet: `qlora-studio export` makes one."
        raise StudioError(
            f"{path} is a run, not an export.",
            kind=FailureKind.USAGE,
            advice=f"Name one of its exports: {exports}" if exports else none,
        )
    return path


def _add_options(parser: argparse.ArgumentParser, *, needs_run: bool = True) -> None:
    parser.add_argument("run_dir", metavar="RUN_DIR", nargs=None if needs_run else "?", help="the run's folder")
    parser.add_argument("--checkpoint", default="best", help="best, final, last or a step (default: best)")
    parser.add_argument(
        "--base",
        choices=["original", "nf4"],
        default="original",
        help="merge into the original weights, or into their 4-bit round trip (default: original)",
    )
    parser.add_argument("--force", action="store_true", help="merge even if the base is not the one of training")
    parser.add_argument("--out", metavar="DIR", default="", help="folder to write (default: inside the run's folder)")


def _export(
    arguments: argparse.Namespace, formats: list[str], importance: Literal["auto", "on", "off"], console: Console
) -> int:
    folder = existing_run(arguments.run_dir)
    job = ExportJob(
        run_dir=str(folder.path.resolve()),
        formats=formats,
        checkpoint=arguments.checkpoint,
        base=arguments.base,
        force=arguments.force,
        importance_matrix=importance,
        out_dir=_absolute(arguments.out) if arguments.out else "",
    )
    return _told(run_job(job, console, parent=folder), console)


def _told(state: RunState, console: Console) -> int:
    """Tell what was written and how it was found, and return the exit code."""
    facts = _facts(state)
    seconds = facts.seconds or round(state.last_event - state.started, 3)
    console.report(_report(state, facts, seconds))
    for check in facts.checks:
        console.result(_check_text(check))
    for item in state.exports:
        console.result(f"{item.format}: {item.path} ({bytes_text(item.size_bytes)})")
    console.result(f"{'Done' if facts.verified else 'Written, and not verified,'} in {duration_text(seconds)}.")
    return ExitCode.OK if facts.verified else ExitCode.NOT_VERIFIED


def _merge_foreign(arguments: argparse.Namespace, console: Console) -> int:
    if not (arguments.base_model and arguments.adapter and arguments.out) or arguments.run_dir:
        raise StudioError("Give --base-model, --adapter and --out together, and no run.", kind=FailureKind.USAGE)
    source = _absolute(arguments.base_model) if is_there(Path(arguments.base_model)) else arguments.base_model
    job = MergeJob(
        base_model=source,
        adapter=_absolute(arguments.adapter),
        out_dir=_absolute(arguments.out),
        force=arguments.force,
    )
    return _told(run_job(job, console), console)


def _facts(state: RunState) -> ExportFacts:
    """Return what the job finished with; nothing is verified where it did not say so."""
    return state.facts if isinstance(state.facts, ExportFacts) else ExportFacts(verified=False, checks=())


def _report(state: RunState, facts: ExportFacts, seconds: float) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "out_dir": facts.out_dir or None,
        "seconds": seconds,
        "peak_rss_bytes": facts.peak_rss_bytes,
        "tensors_merged": facts.tensors_merged,
        "verified": facts.verified,
        "checks": _plain(facts.checks),
        "exports": [
            {"format": item.format, "path": item.path, "size_bytes": item.size_bytes, **item.facts.model_dump()}
            for item in state.exports
        ],
    }


def _plain(checks: Sequence[FormatCheck]) -> list[dict[str, Any]]:
    return [check.model_dump() for check in checks]


def _check_text(check: FormatCheck) -> str:
    return f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.message}"


def _absolute(path: str) -> str:
    return str(whole_path(path).resolve())
