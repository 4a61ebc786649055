"""Seconds from *Start* to the beginning of training by phase: of a fresh worker, and of one that waited for the run.

    python -m tests.benchmarks.starting            SmolLM2, three of each in turn, some minutes
    python -m tests.benchmarks.starting --rounds 1 --only fresh

Everything is the real program's: worker, supervisor, starter model and rows. The processor's seconds are those of the
worker and of the children that it has waited for; a busy machine changes them little, and the clock's a lot.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.run.events import PhaseChanged, TrainingStarted, WorkerStarted
from qlora_studio.jobs.idle_worker import IdleWorker
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import create_run_folder

STARTER = Path(__file__).parents[2] / "resources" / "starter" / "starter.jsonl"
_CONFIG = {
    "model": {"source": "starter"},
    "data": {"path": str(STARTER), "evaluation_share": 0},
    "training": {"max_steps": 1, "max_length": 512},
    "evaluation": {"every_steps": 0},
    "checkpoint": {"every_steps": 0},
    "export": {"merge": False},
}
_QUIET_SECONDS = 2.0

Phases = dict[str, tuple[float, float]]  # the clock's and the processor's seconds


def main() -> None:
    """Measure and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["fresh", "waited"])
    arguments = parser.parse_args()
    kinds = [arguments.only] if arguments.only else ["fresh", "waited"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["QLORA_STUDIO_HOME"] = folder
        measured(Path(folder), waited=False)  # the starter model is converted, files are read
        found = [
            (kind, measured(Path(folder), waited=kind == "waited")) for _ in range(arguments.rounds) for kind in kinds
        ]
    for kind in kinds:
        tell(kind, [phases for other, phases in found if other == kind])


def measured(folder: Path, *, waited: bool) -> Phases:
    """Start a run and return what each phase took until training began; then end it."""
    idle = _waiting() if waited else None
    run = create_run_folder(folder / "runs", from_mapping(_CONFIG))
    before = {child: _processor(child) for child in psutil.Process().children(recursive=True)}
    began = time.time()
    process = start_worker(run, idle=idle)
    try:
        return dict(_phases(RunFollower(run, process), began, sum(before.values())))
    finally:
        process.kill()
        process.wait(10)


def _waiting() -> IdleWorker:
    """Return one that has done all that it does before it has a run."""
    idle = IdleWorker()
    idle.keep({})
    quiet, last = 0.0, -1.0
    while quiet < _QUIET_SECONDS:
        time.sleep(0.2)
        now = sum(map(_processor, psutil.Process().children(recursive=True)))
        quiet, last = (quiet + 0.2 if now == last and now > 1 else 0.0), now
    return idle


def _phases(follower: RunFollower, began: float, used: float) -> Iterator[tuple[str, tuple[float, float]]]:
    name = "process"
    for batch in follower.batches():
        for event in batch:
            if not isinstance(event, WorkerStarted | PhaseChanged | TrainingStarted):
                continue
            now = sum(map(_processor, psutil.Process().children(recursive=True)))
            yield name, (event.time - began, now - used)
            began, used = event.time, now
            if isinstance(event, TrainingStarted):
                return
            name = event.phase if isinstance(event, PhaseChanged) else "config"


def _processor(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def tell(kind: str, rounds: list[Phases]) -> None:
    """Print the median of each phase, and of the whole."""
    print(f"\n{kind}: seconds by the clock, by the processor")
    for name in rounds[0]:
        print(f"{name:>20} {_median(rounds, [name], 0):6.2f} {_median(rounds, [name], 1):6.2f}")
    print(f"{'all of it':>20} {_median(rounds, rounds[0], 0):6.2f} {_median(rounds, rounds[0], 1):6.2f}")


def _median(rounds: list[Phases], names: "list[str] | Phases", which: int) -> float:
    return statistics.median(sum(phases[name][which] for name in names) for phases in rounds)


if __name__ == "__main__":
    main()
