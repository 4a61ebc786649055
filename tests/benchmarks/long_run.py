"""What a long run, and a list of many, cost to look at: in the window and on the command line, by processor time.

    python -m tests.benchmarks.long_run [--steps 100000] [--runs 1000] [--rounds 3]

The real window, offscreen where there is no screen, in a process of its own for each look. The seconds are of all
threads, from the click until half a second after the curves are drawn or the list is whole; of a command, what it
takes beyond `--version`. `first` is with an empty cache, `again` by another window later.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

_LONG_AGO = 1_700_000_000
_REST_SECONDS = 0.5  # for what is done after that


def main() -> None:
    """Measure, or be the window that is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=100_000, help="of the long run")
    parser.add_argument("--runs", type=int, default=1000, help="in the list")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long", type=Path, help=argparse.SUPPRESS)  # where it is: for the window that is measured
    arguments = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    if arguments.long:
        print(json.dumps(in_window(arguments)))
        return
    found: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as place:
            os.environ["QLORA_STUDIO_HOME"] = place
            for name, seconds in round_of(Path(place), arguments):
                found.setdefault(name, []).append(seconds)
    for name, times in found.items():
        print(f"{name:<40}{median(times):>7.2f}   ({min(times):.2f} to {max(times):.2f})")
    print("seconds of processor time: the median, from the least to the most")


def round_of(place: Path, arguments: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """Yield what each look takes, the first ones and those that follow."""
    from qlora_studio.storage.session import session_path
    from tests.benchmarks.window_use import write_run

    for number in range(arguments.runs):
        write_run(place / "runs" / f"{number:05}-listed", 40)
    long = write_run(place / "elsewhere" / "long", arguments.steps)
    for path in place.glob("*/*/*"):
        os.utime(path, (_LONG_AGO, _LONG_AGO))
    window = [sys.executable, "-m", "tests.benchmarks.long_run"]
    window += ["--long", str(long.path), "--steps", str(arguments.steps), "--runs", str(arguments.runs)]
    for when in ("first", "again"):
        session_path().unlink(missing_ok=True)  # else the next window opens the run by itself
        told = subprocess.run(window, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        yield from ((f"window: {what}, {when}", seconds) for what, seconds in json.loads(told).items())
    nothing = of_command("--version")
    for what, command in {"runs": ("runs",), "watch": ("watch", str(long.path))}.items():
        yield f"{what}, beyond --version", of_command(*command) - nothing


def of_command(*command: str) -> float:
    """Return the processor time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "qlora_studio", *command], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def in_window(arguments: argparse.Namespace) -> dict[str, float]:
    """Return what the list of all takes in a window that is just complete, and then opening the long run."""
    from qlora_studio.storage.runs.run_folder import RunFolder
    from qlora_studio.ui.app import AppWindow, new_application

    app = new_application()
    window: Any = AppWindow()
    completed: list[bool] = []
    window.completed.connect(lambda: completed.append(True))
    window.show()
    _live(app, lambda: bool(completed))
    pages, found = window.window.pages, dict[str, float]()
    began = time.process_time()  # the list is being read already
    window.window.show_page("runs")
    _live(app, lambda: pages["runs"].model.rowCount() >= arguments.runs)
    _live(app, lambda: False, seconds=_REST_SECONDS)
    found[f"a list of {arguments.runs:,} runs"] = time.process_time() - began
    plots, began = pages["run"].plots, time.process_time()
    window.studio.runs.open(RunFolder(arguments.long))
    window.window.show_page("run")
    _live(app, lambda: plots.is_plot_ready() and len(plots.smoothed_loss()) >= arguments.steps)
    _live(app, lambda: False, seconds=_REST_SECONDS)
    found[f"a run of {arguments.steps:,} steps"] = time.process_time() - began
    window.destroy()
    return found


def _live(app: Any, until: Any, seconds: float = 600.0) -> None:
    """Let the window live until something holds, or for some time."""
    from PySide6.QtCore import QEventLoop

    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        app.processEvents(QEventLoop.ProcessEventsFlag.AllEvents)
        time.sleep(0.005)  # else looking for events is what is measured


if __name__ == "__main__":
    main()
