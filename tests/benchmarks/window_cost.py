"""What an open window takes of the processor while a run is at work before it: seconds a minute.

    python -m tests.benchmarks.window_cost [--seconds 20] [--profile]

A program that tells the steps of a sample run plays the worker, at one step in 1.5 seconds and at five a second; the
real window follows it with the Run page in front, with another page, and minimised (offscreen without a screen).
Counted are all threads of the window's process by processor time, so that a busy machine changes little. `--profile`
prints what the window's own thread spends it on.
"""

import argparse
import cProfile
import os
import pstats
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from qlora_studio.core.run.events import WorkerStarted
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.showcase.sample_run import sample_config, sample_events

PAUSES = {"a step in 1.5 s": 1.5, "5 steps a second": 0.2}
VIEWS = ("run", "model", "minimised")
_BEFORE = 200  # steps that were taken when the window opens
_SETTLE_SECONDS = 3.0
_TELL = "import sys; from tests.benchmarks.window_cost import tell; tell(sys.argv[1], float(sys.argv[2]))"


def main() -> None:
    """Measure every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=VIEWS)
    parser.add_argument("--paces", nargs="+", choices=PAUSES, default=tuple(PAUSES))
    arguments = parser.parse_args()
    if not os.environ.get("DISPLAY"):
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    with tempfile.TemporaryDirectory() as home:
        os.environ["QLORA_STUDIO_HOME"] = home
        watch(Path(home), arguments)


def watch(home: Path, arguments: argparse.Namespace) -> None:
    """Open the window and follow a run at each pace, in each view."""
    from PySide6.QtCore import QEventLoop, QTimer

    from qlora_studio.ui.app import AppWindow, new_application

    _app, window, loop = new_application(), AppWindow(), QEventLoop()
    window.completed.connect(loop.quit)
    window.show()
    loop.exec()

    def live(seconds: float) -> None:
        """Let the window live: not by QTest, which keeps Python from all other threads."""
        QTimer.singleShot(round(1000 * seconds), loop.quit)
        loop.exec()

    assert window.studio is not None
    for number, pace in enumerate(arguments.paces):
        folder = RunFolder(home / "runs" / f"{number}-live")
        folder.write_config(sample_config())
        command = [sys.executable, "-c", _TELL, str(folder.path), str(PAUSES[pace])]
        teller = subprocess.Popen(command, stdin=subprocess.PIPE)
        while not folder.is_busy():
            live(0.05)
        window.studio.runs.open(folder)
        for view in arguments.views:
            window.window.showNormal()
            window.window.show_page(VIEWS[0] if view == "minimised" else view)
            if view == "minimised":
                window.window.showMinimized()
            live(_SETTLE_SECONDS)
            profile = cProfile.Profile() if arguments.profile else None
            began, cpu = time.monotonic(), time.process_time()
            own = time.thread_time()
            with profile or nullcontext():
                live(arguments.seconds)
            took, elapsed = time.process_time() - cpu, time.monotonic() - began
            own = time.thread_time() - own
            print(
                f"{pace}, {view}: {60 * took / elapsed:.2f} s a minute ({60 * own / elapsed:.2f} its own thread)",
                flush=True,
            )
            if profile is not None:
                pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
        teller.communicate()
    window.destroy()


def tell(path: str, pause: float) -> None:
    """Tell steps of a run as its worker would, until the standard input ends."""
    import threading

    over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    folder = RunFolder(path)
    events = sample_events(10_000)
    with folder.lock(), MessageLogWriter(folder.events_path) as log:
        for number, event in enumerate(events):
            told = {"pid": os.getpid()} if isinstance(event, WorkerStarted) else {}
            log.append(event.model_copy(update={"time": time.time(), **told}))
            if number > _BEFORE and over.wait(pause):
                return


if __name__ == "__main__":
    main()
