"""What a day costs the window: its memory after 86,400 simulated seconds of a live run, less that after ten minutes.

    python -m tests.benchmarks.window_memory [--seconds 86400] [--minute 60]

The real window shows a run that takes a step a second, with an evaluation, a sample and a checkpoint every ten minutes
and the card's figures every second; only the waiting between is left out. Prints the memory on the way, in MiB.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

_ALLOWED = 20 << 20
_WARM_SECONDS = 600
_TELLS = 12  # figures on the way


def main() -> int:
    """Live through a day; return whether it cost too much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=int, default=86_400)
    parser.add_argument("--minute", type=int, default=60, help="simulated seconds that are written at once")
    arguments = parser.parse_args()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    with tempfile.TemporaryDirectory() as place:
        os.environ["QLORA_STUDIO_HOME"] = place
        memory = lived(Path(place), arguments.seconds, arguments.minute)
    warm = memory[min(second for second in memory if second >= _WARM_SECONDS)]
    for second in [*memory][:: max(1, len(memory) // _TELLS)]:
        print(f"{second:>7,} s {memory[second] / 2**20:8.1f} MiB")
    grown = memory[max(memory)] - warm
    print(f"{max(memory):>7,} s {memory[max(memory)] / 2**20:8.1f} MiB: {grown / 2**20:+.1f} since {_WARM_SECONDS} s")
    return int(grown > _ALLOWED)


def lived(place: Path, seconds: int, minute: int) -> dict[int, int]:
    """Let the window live; return its resident bytes by simulated second."""
    from PySide6.QtTest import QTest

    from qlora_studio.jobs.process_memory import sample_memory
    from qlora_studio.ui.app import AppWindow, new_application
    from qlora_studio.ui.showcase.sample_run import write_sample_run

    new_application()
    gc.set_threshold(50_000, 20, 100)  # as `app.main` has it
    window = AppWindow()
    done: list[bool] = []
    window.completed.connect(lambda: done.append(True))
    window.show()
    _wait(lambda: bool(done))
    studio = window.studio
    assert studio is not None
    run, process, memory = write_sample_run(place / "runs" / "day", steps=1), psutil.Process(), {}
    step = json.loads(run.events_path.read_text("utf-8").splitlines()[-1])
    with run.lock():
        studio.runs.open(run)
        window.window.show_page("run")
        for second in range(minute, seconds + 1, minute):
            with run.events_path.open("a", encoding="utf-8") as file:
                file.writelines(
                    json.dumps(event) + "\n" for event in _told(step, second - minute + 2, second + 1, seconds)
                )
            for _ in range(minute):
                studio.gpu.add(memory=sample_memory(None))
            _wait(lambda second=second: studio.runs.shown.store.state.step >= second)  # type: ignore[union-attr]
            if second % 300 == 0:
                QTest.qWait(20)
                memory[second] = process.memory_info().rss
    window.destroy()
    return memory


def _told(step: dict[str, Any], first: int, last: int, total: int) -> list[dict[str, Any]]:
    """Return what a worker tells from one second to another."""
    events: list[dict[str, Any]] = []
    for number in range(first, last + 1):
        facts = {"time": step["time"] + number, "step": number}
        events.append(step | facts | {"total_steps": total + 1, "loss": 1 + 30 / (30 + number)})
        if number % 600 == 0:
            events.append({"type": "evaluated", "loss": 1.1, "perplexity": 3.0, "seconds": 8.0} | facts)
            events.append({"type": "sample_generated", "prompt": "Why?", "answer": "Because. " * 20} | facts)
            name = {"name": f"checkpoint-{number}", "size_bytes": 58_000_000, "seconds": 0.4}
            events.append({"type": "checkpoint_saved"} | name | facts)
    return events


def _wait(condition: Any) -> None:
    from PySide6.QtTest import QTest

    until = time.monotonic() + 60
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("waited in vain")
        QTest.qWait(2)


if __name__ == "__main__":
    sys.exit(main())
