"""Two windows over the same runs: neither shows a run as failed that the other one trains."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import Paused, StepDone, WorkerStarted
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.ui.state.run_control import RunControl

WaitUntil = Callable[[Callable[[], object]], None]


@pytest.fixture
def folder(studio_home: Path) -> RunFolder:
    config = RunConfig().with_value("model.source", "starter").with_value("data.path", "rows.jsonl")
    return create_run_folder(studio_home / "runs", config)


@pytest.fixture
def control(qapp: QApplication) -> Iterator[RunControl]:
    control = RunControl()
    yield control
    control.leave_all()


def tell_step(folder: RunFolder, step: int) -> None:
    with MessageLogWriter(folder.events_path) as log:
        log.append(WorkerStarted(job="train", studio="1", pid=1))
        log.append(StepDone(step=step, total_steps=100, epoch=0.1, loss=2.0, learning_rate=1e-4))


def test_a_run_that_the_other_window_trains_is_followed_where_it_was_to_be_resumed(
    folder: RunFolder, control: RunControl, wait_until: WaitUntil
) -> None:
    with folder.lock():
        tell_step(folder, 7)
        assert control.open(folder, start_it=True)
        assert control.shown is not None
        store = control.shown.store
        wait_until(lambda: store.state.step == 7)
        assert (store.state.phase, store.state.failure) == (Phase.TRAINING, None)
        control.leave_all()


def test_a_run_that_ended_here_and_goes_on_in_the_other_window_is_shown_at_work(
    folder: RunFolder, control: RunControl, wait_until: WaitUntil
) -> None:
    tell_step(folder, 7)
    with MessageLogWriter(folder.events_path) as log:
        log.append(Paused(checkpoint="", step=7))
    control.open(folder)
    shown = control.shown
    assert shown is not None
    wait_until(lambda: shown.follower is not None and shown.follower.isFinished())
    assert not shown.is_at_work()
    wait_until(lambda: shown._left_at is not None)
    with folder.lock():
        tell_step(folder, 8)
        wait_until(lambda: shown.store.state.step == 8)
        assert shown.store.state.phase is Phase.TRAINING and shown.is_at_work()
        control.leave_all()
