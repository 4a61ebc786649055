"""`download`: a model from the hub into the hub's own cache, because the user asked for it."""

import argparse
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.job_session import run_job
from qlora_studio.core.errors import ExitCode
from qlora_studio.core.run.job import DownloadJob
from qlora_studio.core.run.reports import DownloadFacts


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `download`."""
    download = commands.add_parser(
        "download",
        parents=[shared],
        help="fetch a model from the hub",
        description="Fetch a model from the Hugging Face hub into the hub's own cache, where every program finds it. "
        "A download that was cut off goes on where it stopped.",
    )
    download.add_argument("model", metavar="OWNER/NAME", help="the model's hub id")
    download.add_argument("--revision", default="", help="a branch, tag or commit (default: the newest)")
    download.set_defaults(run=download_model)


def download_model(arguments: argparse.Namespace, console: Console) -> int:
    """Download, with progress."""
    state = run_job(DownloadJob(source=arguments.model, revision=arguments.revision), console)
    console.report(state.facts.model_dump())
    console.result(state.facts.path if isinstance(state.facts, DownloadFacts) else "")
    return ExitCode.OK
