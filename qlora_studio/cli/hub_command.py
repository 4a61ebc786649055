"""`download` and `upload`: a model from the hub, an export to the hub, because the user asked for it."""

import argparse
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.export_command import export_folder
from qlora_studio.cli.job_session import run_job
from qlora_studio.core.errors import ExitCode
from qlora_studio.core.quantity import bytes_text, counted
from qlora_studio.core.run.job import DownloadJob, UploadJob
from qlora_studio.core.run.reports import DownloadFacts, UploadReported
from qlora_studio.storage.runs.upload_files import check_repository, upload_files


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `download` and `upload`."""
    download = commands.add_parser(
        "download",
        parents=[shared],
        help="fetch a model from the hub",
        description="Fetch a model from the Hugging Face hub into the hub's own cache, where every program finds it. "
        "Files that came whole before a download was cut off are not fetched again.",
    )
    download.add_argument("model", metavar="OWNER/NAME", help="the model's hub id")
    download.add_argument("--revision", default="", help="a branch, tag or commit (default: the newest)")
    download.set_defaults(run=download_model)
    upload = commands.add_parser(
        "upload",
        parents=[shared],
        help="upload an export to the hub",
        description="Upload an export to the Hugging Face hub, as a private repository unless --public is given. Only "
        "what is verified, and tells nothing of this computer, is uploaded. The token is the one of `hf auth login`.",
    )
    upload.add_argument("path", metavar="DIR", help="the export's folder")
    upload.add_argument("--repo", required=True, metavar="OWNER/NAME", help="the repository; made where there is none")
    upload.add_argument("--public", action="store_true", help="let everybody see it")
    upload.add_argument(
        "--force", action="store_true", help="upload even what is not verified, or names this computer or its user"
    )
    upload.set_defaults(run=upload_export)


def download_model(arguments: argparse.Namespace, console: Console) -> int:
    """Download, with progress."""
    state = run_job(DownloadJob(source=arguments.model, revision=arguments.revision), console)
    console.report(state.facts.model_dump())
    console.result(state.facts.path if isinstance(state.facts, DownloadFacts) else "")
    return ExitCode.OK


def upload_export(arguments: argparse.Namespace, console: Console) -> int:
    """Say what goes where, then upload it."""
    path = export_folder(arguments.path)
    check_repository(arguments.repo)
    files = upload_files(path)
    size, seen = bytes_text(sum(file.size for file in files)), "everybody" if arguments.public else "you alone"
    console.say(f"{counted(len(files), 'file')}, {size}, to {arguments.repo}, seen by {seen}.")
    job = UploadJob(
        path=str(path.resolve()), repository=arguments.repo, private=not arguments.public, force=arguments.force
    )
    state = run_job(job, console)
    report = next(item.report for item in state.reports if isinstance(item, UploadReported))
    console.report({"out_dir": report.path, **report.model_dump(exclude={"path"})})
    console.result(report.url)
    return ExitCode.OK
