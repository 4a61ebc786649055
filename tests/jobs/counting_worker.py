"""A worker whose training is a chain of hashes: durable, resumable and quick, so that its whole life can be tested."""

import contextlib
import hashlib
import os
import sys
import time
from pathlib import Path

from qlora_studio.core.run.commands import Command, Pause, SaveCheckpoint, Stop
from qlora_studio.core.run.events import (
    CheckpointSaved,
    Finished,
    Paused,
    Resumed,
    StepDone,
    TerminalEvent,
    TrainingStarted,
    WorkerStarted,
)
from qlora_studio.engine.context import JobContext
from qlora_studio.storage.runs import inherited_lock
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder
from qlora_studio.storage.runs.run_folder import RunFolder

STEPS = 150
EVERY = 20
SECONDS = float(os.environ.get("COUNTING_SECONDS", "0.002"))  # a step


def link(value: str, step: int) -> str:
    """Return the chain's value after `step`."""
    return hashlib.sha256(f"{value}:{step}".encode()).hexdigest()


def whole_chain() -> str:
    """Return what an undisturbed run ends with."""
    value = ""
    for step in range(1, STEPS + 1):
        value = link(value, step)
    return value


class Run:
    """One session: from the newest safe checkpoint to an end."""

    def __init__(self, folder: RunFolder, context: JobContext) -> None:
        self.folder, self.context = folder, context
        self.checkpoints = CheckpointFolder(folder.checkpoints_path)
        self.step, self.value = 0, ""

    def work(self) -> TerminalEvent:
        self._resume()
        self.context.emit(TrainingStarted(step=self.step, total_steps=STEPS))
        while self.step < STEPS:
            self.step += 1
            self.value = link(self.value, self.step)
            time.sleep(SECONDS)
            self.context.emit(StepDone(step=self.step, total_steps=STEPS, epoch=0, loss=1 / self.step, learning_rate=0))
            ending = self._obey(self.context.commands())
            if ending is not None:
                return ending
        self.folder.adapter_path.mkdir(exist_ok=True)
        (self.folder.adapter_path / "value").write_text(self.value)
        return Finished()

    def _resume(self) -> None:
        newest = self.checkpoints.newest_safe(lambda path, why: None)
        if newest is not None:
            self.step, self.value = newest.step, (newest.path / "value").read_text()
            self.context.emit(Resumed(step=self.step, checkpoint=newest.path.name))

    def _obey(self, commands: list[Command]) -> TerminalEvent | None:
        if self.step % EVERY == 0 or any(isinstance(command, SaveCheckpoint | Pause | Stop) for command in commands):
            self._save()
        if any(isinstance(command, Pause) for command in commands):
            return Paused(step=self.step, checkpoint=f"checkpoint-{self.step}")
        if any(isinstance(command, Stop) for command in commands):
            return Finished(status="stopped")
        return None

    def _save(self) -> None:
        def write(folder: Path) -> None:
            (folder / "value").write_text(self.value)

        saved = self.checkpoints.save(self.step, write)
        self.context.emit(CheckpointSaved(step=self.step, name=saved.path.name, size_bytes=1, seconds=0))
        self.checkpoints.rotate(2)


if __name__ == "__main__":
    run_folder = RunFolder(sys.argv[1])
    inherited = os.environ.get(inherited_lock.VARIABLE, "").isdigit()
    with contextlib.nullcontext() if inherited else run_folder.lock().acquire(timeout=5):
        job_context = JobContext(run_folder)
        job_context.emit(WorkerStarted(job="train", studio="test", pid=os.getpid()))
        job_context.emit(Run(run_folder, job_context).work())
