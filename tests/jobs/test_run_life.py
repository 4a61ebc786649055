"""A run's life as a state machine: started, paused, stopped, killed, frozen, watched in any order, nothing is lost."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Pause, SaveCheckpoint, Stop
from qlora_studio.core.run.events import Event, Failed, Finished, Paused, StepDone
from qlora_studio.core.run.run_state import RunState, reduce
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_process import SUPERVISOR, WorkerProcess, start_worker
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from tests.jobs.counting_worker import EVERY, whole_chain

_PROGRAM = [*SUPERVISOR, sys.executable, "-m", "tests.jobs.counting_worker"]
_ROOT = Path(__file__).resolve().parents[2]


class RunLife(RuleBasedStateMachine):
    """What a user, a crash and a second window may do to a run."""

    folder: RunFolder
    process: WorkerProcess | None = None

    @initialize()
    def make_the_run(self) -> None:
        os.environ["PYTHONPATH"] = str(_ROOT)
        self._home = tempfile.mkdtemp()
        self.folder = create_run_folder(Path(self._home), RunConfig())
        self.safe_step = 0

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
        if self.folder.state().phase not in (Phase.FINISHED, Phase.STOPPED):
            events = _followed(start_worker(self.folder, _PROGRAM))
            assert isinstance(events[-1], Finished)
        if self.folder.adapter_path.exists():
            assert (self.folder.adapter_path / "value").read_text() == whole_chain()
        shutil.rmtree(self._home)

    def _is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @rule()
    def start_or_resume(self) -> None:
        if self._is_alive():
            self._try_to_start_a_second_worker()
            return
        if self.folder.state().phase not in (Phase.FINISHED, Phase.STOPPED):
            self.process = start_worker(self.folder, _PROGRAM)

    def _try_to_start_a_second_worker(self) -> None:
        if not self.folder.is_busy():  # it is alive, but has not yet taken its lock
            return
        try:
            second = start_worker(self.folder, _PROGRAM)
        except StudioError as error:
            assert "at work" in error.message
        else:  # only where the first came to its end in this very moment
            assert self.process is not None
            assert self.process.wait(10) == 0
            self.process = second

    @precondition(lambda self: self._is_alive())
    @rule(long=st.booleans())
    def watch_some_steps(self, long: bool) -> None:
        assert self.process is not None
        wanted = 30 if long else 3
        seen = 0
        for batch in RunFollower(self.folder, self.process, from_start=False).batches():
            seen += sum(isinstance(event, StepDone) for event in batch)
            if seen >= wanted:
                return

    @precondition(lambda self: self._is_alive())
    @rule()
    def pause(self) -> None:
        assert self.process is not None
        self.folder.send(Pause())
        ending = _followed(self.process)[-1]
        assert isinstance(ending, Paused | Finished)
        self.process.wait(10)
        assert self.folder.state().phase in (Phase.PAUSED, Phase.FINISHED)

    @precondition(lambda self: self._is_alive())
    @rule()
    def stop_and_save(self) -> None:
        assert self.process is not None
        self.folder.send(Stop(save=True))
        assert isinstance(_followed(self.process)[-1], Finished)
        self.process.wait(10)

    @precondition(lambda self: self._is_alive())
    @rule()
    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        ending = _followed(self.process)[-1]
        assert isinstance(ending, Failed | Finished | Paused)
        if isinstance(ending, Failed):
            assert "SIGKILL" in ending.message

    @precondition(lambda self: self._is_alive())
    @rule()
    def a_library_breaks(self) -> None:
        assert self.process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            for worker in psutil.Process(self.process.pid).children():
                worker.send_signal(signal.SIGSEGV)

    @precondition(lambda self: self._is_alive())
    @rule()
    def save_now(self) -> None:
        self.folder.send(SaveCheckpoint())

    @precondition(lambda self: self._is_alive())
    @rule()
    def freeze_and_thaw(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        os.kill(self.process.pid, signal.SIGCONT)

    @rule()
    def a_second_window_attaches_and_sees_the_same(self) -> None:
        if self._is_alive() or not self.folder.events_path.exists():
            return
        state = RunState()
        for batch in RunFollower(self.folder).batches(threading.Event()):
            for event in batch:
                if not (isinstance(event, Failed) and event.kind == "worker_died"):
                    state = reduce(state, event)
        assert state == self.folder.state()

    @invariant()
    def a_safe_checkpoint_is_never_lost(self) -> None:
        if not hasattr(self, "folder") or self._is_alive():
            return  # a living worker lets go of old checkpoints while one looks
        newest = next(CheckpointFolder(self.folder.checkpoints_path).safe(), None)
        step = newest.step if newest is not None else 0
        assert step >= self.safe_step
        self.safe_step = step
        told = self.folder.state().last_step
        if told is not None:
            assert told.step - step <= EVERY


def _followed(process: WorkerProcess) -> list[Event]:
    return [event for batch in RunFollower(process.folder, process, from_start=False).batches() for event in batch]


RunLife.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestRunLife = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot freeze a process")(RunLife.TestCase)
