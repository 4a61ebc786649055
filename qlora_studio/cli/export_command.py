"""`merge`, `export` and `verify`: what was learned, in the shape that other programs take, and the proof of it."""

import argparse
from pathlib import Path
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.job_session import run_job
from qlora_studio.cli.train_command import existing_run
from qlora_studio.core.exit_code import ExitCode
from qlora_studio.core.job import ExportJob, VerifyJob
from qlora_studio.core.problem import StudioError
from qlora_studio.core.quantity import bytes_text, duration_text
from qlora_studio.core.run_state import RunState


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `merge`, `export` and `verify`."""
    merge = commands.add_parser(
        "merge",
        parents=[shared],
        help="merge a run's adapter into its 16-bit base",
        description="Merge a run's adapter into its base and write safetensors that transformers, vLLM and TGI load.",
    )
    _add_options(merge)
    merge.set_defaults(run=merge_run)
    export = commands.add_parser(
        "export",
        parents=[shared],
        help="write a run's model in other formats",
        description="Write a run's model as safetensors, GGUF, for Ollama, or as the adapter alone.",
    )
    _add_options(export)
    export.add_argument(
        "--to", default="safetensors", metavar="FORMATS", help="safetensors, gguf:q8_0, ollama, adapter; with commas"
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
    verify.set_defaults(run=verify_export)


def merge_run(arguments: argparse.Namespace, console: Console) -> int:
    """Merge into 16-bit safetensors."""
    return _export(arguments, ["safetensors"], console)


def export_run(arguments: argparse.Namespace, console: Console) -> int:
    """Export to each of the formats named."""
    return _export(arguments, [word.strip() for word in arguments.to.split(",") if word.strip()], console)


def verify_export(arguments: argparse.Namespace, console: Console) -> int:
    """Check an export, and say which of the checks it passed."""
    path = Path(arguments.path).expanduser()
    if not path.is_dir():
        raise StudioError(f"There is no folder {path}.", kind="run_not_found", advice="Name the folder of an export.")
    state = run_job(VerifyJob(path=str(path.resolve())), console)
    report = next((item.report for item in state.reports if item.kind == "verification"), {})
    checks = report.get("checks", [])
    verified = bool(checks) and all(check["passed"] for check in checks)
    console.report({"out_dir": str(path.resolve()), "verified": verified, **report})
    for check in checks:
        console.result(f"{'ok  ' if check['passed'] else 'FAIL'}  {check['name']}: {check.get('message', '')}")
    return ExitCode.OK if verified else ExitCode.NOT_VERIFIED


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder")
    parser.add_argument("--checkpoint", default="final", help="final, best, last or a step (default: final)")
    parser.add_argument(
        "--base",
        choices=["original", "nf4"],
        default="original",
        help="merge into the original weights, or into their 4-bit round trip (default: original)",
    )
    parser.add_argument("--force", action="store_true", help="merge even if the base is not the one of training")
    parser.add_argument("--out", metavar="DIR", default="", help="folder to write (default: inside the run's folder)")


def _export(arguments: argparse.Namespace, formats: list[str], console: Console) -> int:
    folder = existing_run(arguments.run_dir)
    job = ExportJob(
        run_dir=str(folder.path.resolve()),
        formats=formats,
        checkpoint=arguments.checkpoint,
        base=arguments.base,
        force=arguments.force,
        out_dir=str(Path(arguments.out).expanduser().resolve()) if arguments.out else "",
    )
    state = run_job(job, console, parent=folder)
    report = _report(state)
    console.report(report)
    for item in report["exports"]:
        console.result(f"{item['format']}: {item['path']} ({bytes_text(item['size_bytes'])})")
    console.result(f"Done in {duration_text(report['seconds'])}.")
    return ExitCode.OK


def _report(state: RunState) -> dict[str, Any]:
    exports = [
        {"format": event.format, "path": event.path, "size_bytes": event.size_bytes, **event.facts}
        for event in state.exports
    ]
    return {
        "out_dir": exports[0]["path"] if exports else None,
        "seconds": round(state.last_event - state.started, 3),
        **state.facts,
        "exports": exports,
    }
