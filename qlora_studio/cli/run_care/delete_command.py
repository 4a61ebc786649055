"""`delete`: remove runs that nobody is at work in, for ever. The window has a trash; a terminal has none."""

import argparse
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.train_command import existing_run
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.core.quantity import bytes_text, counted
from qlora_studio.storage.run_care.disk_use import bytes_in
from qlora_studio.storage.run_care.removal import remove_for_ever, require_removable


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `delete`."""
    delete = commands.add_parser(
        "delete",
        parents=[shared],
        help="delete runs, with their checkpoints and exports, for ever",
        description="Delete the folders of runs. One at work is refused, and one that holds what is not of the run. "
        "Without --yes it is said what that would free, and nothing is deleted.",
    )
    delete.add_argument("run_dirs", metavar="RUN_DIR", nargs="+", help="the run's folder")
    delete.add_argument("--yes", action="store_true", help="delete them, checkpoints and all, for ever")
    delete.set_defaults(run=delete_runs)


def delete_runs(arguments: argparse.Namespace, console: Console) -> int:
    """Look whether all of them may go before the first one goes, and delete them."""
    console.if_interrupted("Nothing was deleted.")
    folders = list({folder.path.absolute(): folder for folder in map(existing_run, arguments.run_dirs)}.values())
    for folder in folders:
        require_removable(folder)
    size = sum(bytes_in(folder.path) for folder in folders)
    if not arguments.yes:
        raise StudioError(
            f"Nothing is deleted yet: {counted(len(folders), 'run')}, {bytes_text(size)}, would be gone for ever.",
            kind=FailureKind.USAGE,
            advice="Say that it is to be with --yes. In the window, runs go to the trash instead.",
        )
    with console.interruption.held():
        for folder in folders:
            remove_for_ever(folder)
        console.if_interrupted(f"{counted(len(folders), 'run')} deleted.")
    console.report({"deleted": [str(folder.path.absolute()) for folder in folders], "freed_bytes": size})
    console.result(f"{counted(len(folders), 'run')} deleted, {bytes_text(size)} freed.")
    return ExitCode.OK
