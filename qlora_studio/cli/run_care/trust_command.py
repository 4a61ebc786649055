"""`trust`: let a run that was made elsewhere, or changed by hand, give orders here."""

import argparse
import sys
from typing import Any

from qlora_studio.cli.console import Console, write_err
from qlora_studio.cli.train_command import existing_run
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.storage.runs.trusted_run import Question


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `trust`."""
    trust = commands.add_parser(
        "trust",
        parents=[shared],
        help="let a run from elsewhere be resumed, exported and asked",
        description="Show what a run would do here, and trust it. One that this user did not make on this computer, or "
        "whose run.toml was changed, can be looked at, and does nothing before.",
    )
    trust.add_argument("run_dirs", metavar="RUN_DIR", nargs="+", help="the run's folder")
    trust.add_argument("--yes", action="store_true", help="trust them without a question")
    trust.set_defaults(run=trust_runs)


def trust_runs(arguments: argparse.Namespace, console: Console) -> int:
    """Show what each run would do, ask, and put it on record."""
    console.if_interrupted("Nothing is trusted by this.")
    folders = [existing_run(path) for path in arguments.run_dirs]
    questions = [Question(folder) for folder in folders]
    for folder, question in zip(folders, questions, strict=True):
        console.say(f"{folder.path.name}:", *(f"  {line}" for line in question.lines))
    if not arguments.yes and not _agreed():
        raise StudioError(
            "Nothing is trusted yet.", kind=FailureKind.NOT_TRUSTED, advice="Say that it is to be with --yes."
        )
    with console.interruption.held():
        for question in questions:
            question.accept()
        console.if_interrupted("Trusted, for as long as run.toml stays as it is.")
    console.report({"trusted": [str(folder.path.resolve()) for folder in folders]})
    console.result("Trusted, for as long as run.toml stays as it is.")
    return ExitCode.OK


def _agreed() -> bool:
    if not sys.stdin.isatty():
        return False
    write_err("Trust this? [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
