"""The window's picture of a run is what its events say, live or replayed."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QEvent, QObject, Signal
from PySide6.QtWidgets import QApplication
from shiboken6 import isValid

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import Event, Failed, Finished, Resumed
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.showcase.sample_run import sample_config, sample_events, write_sample_run
from qlora_studio.ui.state.job_thread import JobThread
from qlora_studio.ui.state.run_store import RunStore
from tests.ui.taken_events import take

WaitUntil = Callable[[Callable[[], object]], None]


def test_a_store_that_was_fed_in_pieces_equals_the_replay_of_the_folder(qapp: QApplication, tmp_path: Path) -> None:
    folder = write_sample_run(tmp_path / "run", steps=230, ending=Finished())
    store = RunStore()
    store.open(folder, folder.config())
    events = tuple(folder.events())
    for start in range(0, len(events), 7):
        take(store, events[start : start + 7])
    state, history = folder.replay()
    assert store.state == state
    assert store.history.steps["loss"].y.tolist() == history.steps["loss"].y.tolist()
    assert store.checkpoints == (100, 200)
    assert store.state.phase == Phase.FINISHED


def test_a_long_replay_is_applied_bit_by_bit_in_order(
    qapp: QApplication, tmp_path: Path, wait_until: WaitUntil
) -> None:
    events = (*sample_events(40_000), Finished())
    store = RunStore()
    applied: list[Event] = []
    store.open(write_sample_run(tmp_path / "run", steps=1))
    store.events_applied.connect(applied.extend)
    store.take(events[:20_000])
    assert 0 < len(applied) < 20_000
    store.take(events[20_000:])
    wait_until(lambda: store.state.phase == Phase.FINISHED)
    assert tuple(applied) == events
    assert store.state.step == 40_000
    store.take(events)
    store.forget()
    count = len(applied)
    qapp.processEvents()
    assert len(applied) == count < 2 * len(events)


def test_a_store_tells_once_a_batch_that_it_changed(qapp: QApplication) -> None:
    store = RunStore()
    told: list[int] = []
    store.changed.connect(lambda: told.append(store.state.step))
    take(store, tuple(sample_events(20)))
    assert told == [20]


def test_a_replay_is_told_a_few_times_and_its_end_at_once(qapp: QApplication) -> None:
    events = (*sample_events(20_000), Finished())
    store = RunStore()
    told: list[int] = []
    store.changed.connect(lambda: told.append(store.state.step))
    for start in range(0, len(events), 500):  # as a file is read: each piece is applied before the next one comes
        take(store, events[start : start + 500])
    assert told[0] > 0
    assert told[-1] == 20_000 and store.state.phase == Phase.FINISHED
    assert len(told) < 12


def test_a_pause_in_the_midst_of_a_replay_is_no_gap_in_what_is_told(qapp: QApplication, wait_until: WaitUntil) -> None:
    events = tuple(sample_events(1000))
    store = RunStore()
    told: list[int] = []
    store.changed.connect(lambda: told.append(store.state.step))
    take(store, events[:500])
    take(store, events[500:])
    wait_until(lambda: told[-1] == 1000)


def test_what_comes_faster_than_anybody_reads_is_told_together_and_the_last_of_it_soon(
    qapp: QApplication, wait_until: WaitUntil
) -> None:
    events = tuple(sample_events(60))
    store = RunStore()
    told: list[int] = []
    take(store, events[:10])  # begins to train, which is told at once
    store.changed.connect(lambda: told.append(store.state.step))
    for start in range(10, 60, 10):
        take(store, events[start : start + 10])
    assert len(told) < 5
    wait_until(lambda: told[-1:] == [store.state.step])
    before = len(told)
    take(store, (Finished(),))
    assert len(told) == before + 1, "an end is told at once"


def test_a_resumed_run_overwrites_the_steps_that_are_taken_again(qapp: QApplication) -> None:
    store = RunStore()
    events = tuple(sample_events(120))
    take(store, events)
    take(store, (Resumed(step=100, checkpoint="checkpoint-100"),))
    assert store.history.steps["loss"].x[-1] == 100


def test_a_thread_replays_a_run_from_its_file_in_order(
    qapp: QApplication, tmp_path: Path, wait_until: WaitUntil
) -> None:
    folder = write_sample_run(tmp_path / "run", steps=412, ending=Finished())
    store = RunStore()
    store.open(folder, folder.config())
    thread = JobThread(folder, start_it=False)
    thread.events_received.connect(store.take)
    thread.start()
    wait_until(thread.isFinished)
    wait_until(lambda: store.state.phase == Phase.FINISHED)
    assert store.history.steps["loss"].x.tolist() == [float(step) for step in range(1, 413)]
    thread.leave()


def test_a_run_whose_worker_died_silently_is_shown_as_failed(qapp: QApplication, tmp_path: Path, wait_until) -> None:  # type: ignore[no-untyped-def]
    folder = write_sample_run(tmp_path / "run", steps=30)
    store = RunStore()
    store.open(folder, folder.config())
    thread = JobThread(folder, start_it=False)
    thread.events_received.connect(store.take)
    thread.start()
    wait_until(lambda: store.state.phase == Phase.FAILED)
    assert isinstance(store.state.failure, Failed)
    assert store.state.failure.kind == "worker_died"
    assert store.state.failure.advice
    thread.leave()


def test_a_run_that_is_left_tells_nothing_more_and_its_thread_goes_by_itself(
    qapp: QApplication, tmp_path: Path
) -> None:
    thread = JobThread(write_sample_run(tmp_path / "run", steps=412, ending=Finished()), start_it=False)
    told: list[object] = []
    thread.events_received.connect(told.append)
    thread.start()
    assert thread.wait(10_000)  # what it read is on its way to this thread, which has not turned to it yet
    thread.leave()
    qapp.processEvents()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert told == [] and not isValid(thread)


def test_a_worker_that_cannot_start_becomes_a_failure(
    qapp: QApplication, tmp_path: Path, wait_until: WaitUntil
) -> None:
    thread = JobThread(RunFolder(tmp_path / "nowhere"), start_it=True)
    seen: list[object] = []
    thread.events_received.connect(seen.append)
    thread.start()
    wait_until(lambda: seen)
    assert seen[0][0].kind == "run_not_found"  # type: ignore[index]
    thread.leave()


def test_signals_keep_the_references_of_true_and_none(qapp: QApplication) -> None:
    """PySide6 6.12.0 drops one reference of True or None at each emit on Python 3.10 and 3.11, until Python aborts."""
    import sys

    class Sender(QObject):
        happened = Signal(object)

    sender = Sender()
    sender.happened.connect(lambda value: None)
    before = [sys.getrefcount(value) for value in (None, True)]
    for _ in range(3000):
        sender.happened.emit(None)
        sender.happened.emit(True)
    after = [sys.getrefcount(value) for value in (None, True)]
    assert all(now > then - 1500 for then, now in zip(before, after, strict=True)), (before, after)


def test_the_illustration_says_of_itself_that_it_is_one() -> None:
    from qlora_studio.ui.showcase import sample_run as sample_run_module

    assert "not trained" in (sample_run_module.__doc__ or "")
    assert sample_config().model.source == "starter"
