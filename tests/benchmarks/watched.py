"""What a window that is open and draws costs a run: tokens a second of the same run, watched and not, in turn.

    python -m tests.benchmarks.watched [--rounds 2] [--steps 16]

The real worker trains the starter model with one thread; in every other run the real window, in a process of its own,
follows it on the Run page (offscreen where there is no screen). Window and worker share the machine's cores, as they do
for whoever trains. The first steps are left out: in them the window opens. Prints the rates and their ratio.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.run.events import StepDone
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import create_run_folder

STARTER = Path(__file__).parents[2] / "resources" / "starter" / "starter.jsonl"
_LEFT_OUT = 4  # steps, while the window opens
_CONFIG: dict[str, Any] = {
    "model": {"source": "starter"},
    "data": {"path": str(STARTER), "evaluation_share": 0},
    "evaluation": {"every_steps": 0},
    "checkpoint": {"every_steps": 0},
    "export": {"merge": False},
}
_WATCH = "import sys; from tests.benchmarks.watched import watch; watch(sys.argv[1])"


def main() -> None:
    """Train in turn without and with a window."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=16)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if not os.environ.get("DISPLAY"):
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    found: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as home:
        os.environ["QLORA_STUDIO_HOME"] = home
        rates(Path(home), _LEFT_OUT + 1, watched=False)  # the starter model is converted, files are read
        for _ in range(arguments.rounds):
            for watched, taken in found.items():
                taken += rates(Path(home), arguments.steps, watched=watched)
    alone, watched_rate = (statistics.median(found[watched]) for watched in (False, True))
    for name, samples in (("alone", found[False]), ("with the window", found[True])):
        spread = f"{min(samples):.0f} / {statistics.median(samples):.0f} / {max(samples):.0f}"
        print(f"{name:>16}: {spread} tokens a second (min / median / max of {len(samples)} steps)")
    print(f"with the window {watched_rate / alone:.3f} of alone")


def rates(home: Path, steps: int, *, watched: bool) -> list[float]:
    """Return the tokens a second of each step that counts. A window that did not show them all is an error."""
    training = {"max_steps": steps, "max_length": 512, "batch_size": 4, "gradient_accumulation": 1}
    run = create_run_folder(home / "runs", from_mapping(_CONFIG | {"training": training}))
    process = start_worker(run)
    window = None
    if watched:
        command = [sys.executable, "-W", "ignore", "-c", _WATCH, str(run.path)]
        window = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    done = [event for batch in RunFollower(run, process).batches() for event in batch if isinstance(event, StepDone)]
    if window is not None:
        facts = json.loads(window.communicate(timeout=60)[0].splitlines()[-1])
        if facts["shown"] < steps or facts["paints"] < 2:
            raise SystemExit(
                f"The window showed {facts['shown']} of {steps} steps and was painted {facts['paints']} times."
            )
        print(f"window: {facts['paints']} paints, {facts['cpu']:.1f} s of the processor, which are not the worker's")
    return [event.tokens / event.seconds for event in done[_LEFT_OUT:]]


def watch(folder: str) -> None:
    """Open the window on a run until it has ended, as a user's; then tell what was shown."""
    from PySide6.QtCore import QEvent, QObject, QTimer

    from qlora_studio.storage.runs.run_folder import RunFolder
    from qlora_studio.ui.app import AppWindow, new_application

    app, window = new_application(), AppWindow()
    facts = {"shown": 0, "paints": 0, "cpu": 0.0}

    class Paints(QObject):
        def eventFilter(self, watched: QObject, event: QEvent) -> bool:
            facts["paints"] += event.type() == QEvent.Type.Paint
            return False

    paints, looks = Paints(), QTimer()

    def begin() -> None:
        assert window.studio is not None
        window.studio.runs.open(RunFolder(folder))
        window.window.show_page("run")
        window.window.pages["run"].installEventFilter(paints)
        looks.start(200)

    def look() -> None:
        assert window.studio is not None
        shown = window.studio.runs.shown
        if shown is not None and shown.store.state.phase.is_over:
            step = shown.store.state.last_step
            facts["shown"] = step.step if step else 0
            looks.stop()
            app.quit()

    looks.timeout.connect(look)
    window.completed.connect(begin)
    window.show()
    app.exec()
    window.destroy()
    times = os.times()
    print(json.dumps(facts | {"cpu": times.user + times.system}), flush=True)


if __name__ == "__main__":
    main()
