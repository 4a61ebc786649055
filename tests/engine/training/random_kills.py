"""Kills a real run at random moments of its whole life, and keeps a record of what each kill cost.

The worker is killed, or its supervisor and then the worker that goes on alone, or both at once.
"""

import contextlib
import hashlib
import math
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import CheckpointSaved, Event, PhaseChanged, StepDone, TrainingStarted
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker, wait_until_free
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder, verify
from qlora_studio.storage.runs.export_folder import damages
from qlora_studio.storage.runs.leftovers import remove_leftovers
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.training_run import final_weights, make_run, run_to_end

PHASES = {  # shares of the kills
    "loading": 0.16,
    "training": 0.24,
    "saving": 0.18,
    "evaluating": 0.12,
    "exporting": 0.08,
    "merging": 0.1,
    "verifying": 0.12,
}
WHOM = {"worker": 0.5, "supervisor, then worker": 0.2, "both": 0.3}
SETTINGS = ("training.epochs=2", "evaluation.every_steps=5", "checkpoint.keep=3", "export.merge=true")
_STAGES = {
    "loading_libraries": "loading",
    "preparing_data": "loading",
    "loading_model": "loading",
    "training": "training",
    "evaluating": "evaluating",
    "saving": "saving",
    "exporting": "exporting",
    "merging": "merging",
    "verifying": "verifying",
}
_POLL_SECONDS = 0.001  # a save of the small adapter takes some hundredths


@dataclass(frozen=True)
class Kill:
    """A kill, and what it cost: `lost` steps had been told of and must be taken again from step `safe`."""

    number: int
    run: int
    whom: str
    during: str
    step: int
    safe: int

    @property
    def lost(self) -> int:
        """Return the steps that must be taken again."""
        return self.step - self.safe


class RandomKills:
    """Runs that are killed over and over and resumed until they end, beside one that nobody disturbs."""

    def __init__(self, place: Path, model: Path, seed: int) -> None:
        self._place, self._model = place, model
        self._random = random.Random(seed)
        self.undisturbed = self._make_run("undisturbed")
        state = run_to_end(self.undisturbed)
        assert state.phase is Phase.FINISHED, state.failure
        self._spans = _spans(self.undisturbed)
        self._files = _hashes(self._input_files())
        self._folder = self._make_run("run-1")
        self._told = 0  # of the checkpoints that the present run told as safe, the newest step
        self.runs = 1
        self.removed = 0  # bytes of what kills left half made
        self.kills: list[Kill] = []

    def kill(self, count: int, seconds: float = math.inf) -> None:
        """Kill `count` times, in phases by their share and in random order, each at a random moment of its phase.

        No other kill begins after `seconds`.
        """
        until = time.monotonic() + seconds
        aims = [phase for phase, share in PHASES.items() for _ in range(max(1, round(share * count)))][:count]
        aims += ["training"] * (count - len(aims))
        self._random.shuffle(aims)
        for phase in aims:
            if time.monotonic() > until:
                break
            while not self._kill_once(phase):
                self._check_finished()
                self.runs += 1
                self._told = 0
                self._folder = self._make_run(f"run-{self.runs}")
        if self._folder.state().phase is not Phase.FINISHED:
            state = run_to_end(self._folder)
            assert state.phase is Phase.FINISHED, state.failure
        self._check_finished()

    def table(self) -> str:
        """Return all kills as a table in Markdown."""
        head = "| Kill | Run | Killed | During | At step | Safe checkpoint | Steps lost |\n"
        head += "|---:|---:|---|---|---:|---:|---:|\n"
        rows = (
            f"| {kill.number} | {kill.run} | {kill.whom} | {kill.during} | {kill.step} "
            f"| {kill.safe or '–'} | {kill.lost} |"
            for kill in self.kills
        )
        return head + "\n".join(rows) + "\n"

    def summary(self) -> str:
        """Return what all kills cost, in sentences."""
        lost = [kill.lost for kill in self.kills]
        phases = ", ".join(f"{sum(kill.during == phase for kill in self.kills)} {phase}" for phase in PHASES)
        whom = ", ".join(f"{sum(kill.whom == whom for kill in self.kills)} {whom}" for whom in WHOM)
        return (
            f"{len(lost)} kills by SIGKILL ({phases}; {whom}) over {self.runs} runs of {_steps(self.undisturbed)} "
            f"steps with a checkpoint every 2. Lost by one kill: {max(lost)} steps at most, {sum(lost)} in all; no "
            "checkpoint, and no bit of the final weights of any run. Base model and dataset are unmodified, each "
            f"export was whole or not there, and {self.removed:,} bytes that the kills left half made went at the next "
            "start.\n"
        )

    def _kill_once(self, phase: str) -> bool:
        """Start or resume, and kill at a random moment of a phase; return False where the run ended before that."""
        process = start_worker(self._folder)
        nth = self._random.randint(1, 3) if phase in ("training", "saving", "evaluating") else 1
        if phase != "loading" and not _reach(process, phase, nth):
            return self._gone_on(process)
        time.sleep(self._random.uniform(0.0, self._spans[phase]))  # the moment of the kill, not a wait for something
        if process.poll() is not None:
            return self._gone_on(process)
        whom = self._random.choices(list(WHOM), list(WHOM.values()))[0]
        kill(process, whom, self._random.uniform(0.0, self._spans["training"]))
        self._record(process, whom)
        return True

    def _gone_on(self, process: WorkerProcess) -> bool:
        process.wait(60)
        assert self._folder.state().phase is Phase.FINISHED, self._folder.state().failure
        return False

    def _record(self, process: WorkerProcess, whom: str) -> None:
        events = list(self._folder.events())
        newest = next(CheckpointFolder(self._folder.checkpoints_path).safe(), None)
        safe = newest.step if newest else 0
        self._told = max([self._told, *(event.step for event in events if isinstance(event, CheckpointSaved))])
        assert safe >= self._told, f"checkpoint {self._told} was told as safe, and {safe} is the newest that is"
        for export in self._exports():
            assert damages(export) == [], "an export is there that is not whole"
        session = list(_session(process))
        step = max([safe, *(event.step for event in session if isinstance(event, StepDone))])
        self.kills.append(Kill(len(self.kills) + 1, self.runs, whom, _stage(session), step, safe))

    def _check_finished(self) -> None:
        assert final_weights(self._folder) == final_weights(self.undisturbed), "the weights are not the undisturbed's"
        assert _hashes(self._input_files()) == self._files, "the base model or the dataset was modified"
        verify(self._folder.adapter_path)
        assert self._exports(), "the merged model is missing"
        self.removed += remove_leftovers(self._folder.path.parent)
        left = [*self._folder.path.rglob(".staging-*"), *self._folder.path.rglob(".replaced-*")]
        assert not left, f"what kills left half made is still there: {left}"

    def _exports(self) -> list[Path]:
        place = self._folder.exports_path
        return [path for path in place.iterdir() if not path.name.startswith(".")] if place.is_dir() else []

    def _make_run(self, name: str) -> RunFolder:
        return make_run(self._place / name, self._model, *SETTINGS)

    def _input_files(self) -> list[Path]:
        models = (item for item in self._model.iterdir() if item.is_file())
        return [*sorted(models), *sorted(self._place.glob("undisturbed/rows.jsonl"))]


def kill(process: WorkerProcess, whom: str, seconds: float) -> None:
    """Kill by SIGKILL, and return when nobody works there; a worker without a supervisor goes on for some `seconds`."""
    worker = _worker(process)
    if whom == "both" or worker is None:
        process.kill()
    elif whom == "supervisor, then worker":
        psutil.Process(process.pid).kill()
        time.sleep(seconds)  # the moment of the kill
        assert worker.is_running() or not process.folder.is_busy(), "the worker went with its supervisor"
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()
    else:
        worker.kill()
    process.wait(20)
    assert wait_until_free(process.folder, 20), "a worker is at work still"


def _worker(process: WorkerProcess) -> psutil.Process | None:
    """Return the worker that a supervisor looks after, where it has started one."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return next(iter(psutil.Process(process.pid).children()), None)
    return None


def _reach(process: WorkerProcess, phase: str, nth: int) -> bool:
    """Wait for the `nth` time that a phase begins in this session; return False where it ended before that."""
    log = process.folder.event_log(offset=process.events_offset)
    while True:
        over = process.poll() is not None
        for event in log.new():
            nth -= _begins(event, phase)
            if nth == 0:
                return True
        if over:
            return False
        time.sleep(_POLL_SECONDS)


def _begins(event: Event, phase: str) -> bool:
    if phase == "training":
        return isinstance(event, StepDone)
    return isinstance(event, PhaseChanged) and _STAGES.get(event.phase) == phase


def _session(process: WorkerProcess) -> Iterable[Event]:
    return process.folder.event_log(offset=process.events_offset).all()


def _stage(events: Iterable[Event]) -> str:
    """Return the phase that a session was in when its events end."""
    stage = "loading"
    for event in events:
        if isinstance(event, PhaseChanged):
            stage = _STAGES.get(event.phase, stage)
        elif isinstance(event, StepDone):
            stage = "training"
    return stage


def _spans(folder: RunFolder) -> dict[str, float]:
    """Return how many seconds each phase took in a run, once."""
    events = list(folder.events())
    began = next(event.time for event in events if isinstance(event, TrainingStarted))
    spans = {"loading": began - events[0].time, **_spans_at_the_end(events)}
    spans["training"] = max(event.seconds for event in events if isinstance(event, StepDone))
    spans["saving"] = max(event.seconds for event in events if isinstance(event, CheckpointSaved))
    evaluations = [event.seconds for event in events if event.type == "evaluated"]
    return {**spans, "evaluating": max(evaluations)}


def _spans_at_the_end(events: Sequence[Event]) -> dict[str, float]:
    """Return how long the longest of each part of an export took."""
    turns = [event for event in events if isinstance(event, PhaseChanged)]
    ends = [*(turn.time for turn in turns[1:]), events[-1].time]
    spans: dict[str, float] = {}
    for turn, end in zip(turns, ends, strict=True):
        if turn.phase in ("exporting", "merging", "verifying"):
            spans[turn.phase] = max(spans.get(turn.phase, 0.0), end - turn.time)
    return spans


def _steps(folder: RunFolder) -> int:
    return folder.state().total_steps


def _hashes(files: Iterable[Path]) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
