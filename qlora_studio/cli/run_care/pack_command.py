"""`import` and `report`: a run from elsewhere taken in, and one packed for a bug report."""

import argparse
import os
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.progress import bar
from qlora_studio.cli.train_command import existing_run, runs_path
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.core.path_text import whole_path
from qlora_studio.core.quantity import bytes_text
from qlora_studio.storage.run_care.report_pack import write_report
from qlora_studio.storage.run_care.run_import import Copying, import_run


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `import` and `report`."""
    taking = commands.add_parser(
        "import",
        parents=[shared],
        help="take in a run from elsewhere",
        description="Copy a run's folder or zip among the runs. Until it is trusted it can be looked at, and no more.",
    )
    taking.add_argument("source", metavar="SOURCE", help="the folder of a run, or a zip of it")
    taking.add_argument("--runs", metavar="DIR", help="the folder of runs (default: that of the settings)")
    taking.set_defaults(run=take_in)
    report = commands.add_parser(
        "report",
        parents=[shared],
        help="pack a run for a bug report",
        description="Pack figures, choices among settings and versions of a run, and no word of its user's or of its "
        "data, unless that is asked for.",
    )
    report.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder")
    report.add_argument("--out", metavar="FILE", default="run-report.zip", help="the zip (default: run-report.zip)")
    report.add_argument(
        "--with-data",
        action="store_true",
        help="also names, paths, prompts, answers, messages and the first rows of the dataset: your own text",
    )
    report.set_defaults(run=pack)


def take_in(arguments: argparse.Namespace, console: Console) -> int:
    """Copy a run from elsewhere among the user's."""
    console.if_interrupted("Nothing was taken in.")
    folder = import_run(whole_path(arguments.source), runs_path(arguments.runs), _Drawn(console))
    console.if_interrupted(f"{folder.path.name} is among the runs.")
    console.report({"run_dir": str(folder.path.resolve())})
    console.result(
        f"{folder.path}", "Unless it is one of yours it can be looked at, and no more, until `qlora-studio trust`."
    )
    return ExitCode.OK


def pack(arguments: argparse.Namespace, console: Console) -> int:
    """Write a report of a run."""
    console.if_interrupted("Nothing was written.")
    place = whole_path(arguments.out)
    folder = existing_run(arguments.run_dir)
    if os.path.lexists(place):
        raise StudioError(f"{place} is there already.", kind=FailureKind.USAGE, advice="Name another file with --out.")
    write_report(folder, place, with_data=arguments.with_data)
    console.report({"report": str(place.resolve()), "with_data": arguments.with_data})
    console.result(
        f"{place}: {'with your own text; look at it before you send it' if arguments.with_data else 'no word of yours'}"
        ". CONTENTS.txt in it says what is there."
    )
    return ExitCode.OK


class _Drawn(Copying):
    """A copy that is drawn as it goes on."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def add(self, size: int) -> None:
        """Count what was copied, and draw it."""
        super().add(size)
        if self._console.shows_progress:
            amount = f"{bytes_text(self.done)} of {bytes_text(self.total)}"
            self._console.draw(f"Copied  {bar(self.done, self.total)}  {amount}")
