"""The queue starts one run after another, each when the card is free enough."""

import time
from pathlib import Path

import psutil
import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.jobs import worker_process
from qlora_studio.jobs.gpu_sample import GpuCard
from qlora_studio.jobs.queue_runner import QueueRunner
from qlora_studio.jobs.worker_process import wait_until_free
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.storage.runs.run_queue import RunQueue

_GIB = 1 << 30
_TWO = (GpuCard(0, "GPU-a", "RTX 3090", 24 * _GIB, 20 * _GIB), GpuCard(1, "GPU-b", "RTX 4090", 24 * _GIB, 23 * _GIB))


def _runs(path: Path, count: int) -> list[RunFolder]:
    """Runs without a model: their real workers start, say what is missing, and end."""
    return [create_run_folder(path, RunConfig(name=f"run {number}")) for number in range(count)]


def test_runs_are_started_in_order_one_at_a_time(tmp_path: Path) -> None:
    queue = RunQueue(tmp_path)
    folders = _runs(tmp_path, 3)
    for folder in folders:
        queue.add(folder)
    runner = QueueRunner(queue, tuple)
    started = []
    deadline = time.monotonic() + 120
    while queue.runs() or runner.current:
        assert time.monotonic() < deadline
        process = runner.start_next()
        if process is not None:
            started.append(process.folder.path)
            assert runner.start_next() is None
        time.sleep(0.02)
    assert started == [folder.path.resolve() for folder in folders]
    assert all(wait_until_free(folder, 10) for folder in folders)
    assert all(folder.state().failure is not None for folder in folders)


def test_a_run_waits_until_the_card_has_the_memory_it_needs(tmp_path: Path) -> None:
    queue = RunQueue(tmp_path)
    (folder,) = _runs(tmp_path, 1)
    queue.add(folder, needed_bytes=1000)
    runner = QueueRunner(queue, lambda: [GpuCard(0, "GPU-a", "x", 2000, 999)])
    assert runner.start_next() is None
    assert runner.waiting_for == "the card to be free enough"
    assert [run.path for run in queue.runs()] == [str(folder.path.resolve())]


def test_a_run_waits_in_the_queue_until_it_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut in between would lose it: nobody would start it."""
    queue = RunQueue(tmp_path)
    (folder,) = _runs(tmp_path, 1)
    queue.add(folder)
    waiting = []

    def cards_as_the_worker_starts() -> tuple[GpuCard, ...]:
        waiting.append(queue.runs())
        return ()

    monkeypatch.setattr(worker_process, "gpu_cards", cards_as_the_worker_starts)
    process = QueueRunner(queue, tuple).start_next()
    assert process is not None
    assert [len(runs) for runs in waiting] == [1]
    assert queue.runs() == []
    process.kill()
    process.wait(30)


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say that there are two cards where a worker is started; CUDA's part is the environment that it starts with."""
    monkeypatch.setattr(worker_process, "gpu_cards", lambda: _TWO)


@pytest.mark.usefixtures("two_cards")
def test_two_runs_train_on_two_cards_and_a_third_waits(tmp_path: Path) -> None:
    queue = RunQueue(tmp_path)
    folders = _runs(tmp_path, 3)
    for folder in folders:
        queue.add(folder)
    runner = QueueRunner(queue, lambda: _TWO)
    processes = [runner.start_next(), runner.start_next()]
    assert runner.start_next() is None
    seen = [psutil.Process(process.pid).environ()["CUDA_VISIBLE_DEVICES"] for process in processes if process]
    assert seen == ["GPU-b", "GPU-a"]
    assert len(runner.current) == 2
    for process in filter(None, processes):
        process.kill()
        process.wait(30)


@pytest.mark.usefixtures("two_cards")
def test_a_run_that_waits_for_its_card_keeps_it_and_lets_others_have_the_rest(tmp_path: Path) -> None:
    queue = RunQueue(tmp_path)
    large = create_run_folder(tmp_path, RunConfig(name="large"))
    small = create_run_folder(tmp_path, RunConfig(name="small"))
    queue.add(large, needed_bytes=30 * _GIB)
    queue.add(small)
    runner = QueueRunner(queue, lambda: _TWO)
    process = runner.start_next()
    assert process is not None
    assert process.folder.path == small.path.resolve()
    assert runner.waiting_for == "the card to be free enough"
    process.kill()
    process.wait(30)


@pytest.mark.usefixtures("two_cards")
@pytest.mark.parametrize(("at_work", "starts"), [([""], False), (["GPU-b"], True), (["GPU-a", "GPU-b"], False)])
def test_cards_that_others_train_on_are_left_alone(tmp_path: Path, at_work: list[str], starts: bool) -> None:
    queue = RunQueue(tmp_path)
    (folder,) = _runs(tmp_path, 1)
    queue.add(folder)
    process = QueueRunner(queue, lambda: _TWO, lambda: at_work).start_next()
    assert (process is not None) is starts
    if process is not None:
        process.kill()
        process.wait(30)


@pytest.mark.usefixtures("two_cards")
def test_a_run_on_both_cards_waits_for_both_and_then_holds_both(tmp_path: Path) -> None:
    queue, at_work = RunQueue(tmp_path), ["GPU-a"]
    both = create_run_folder(tmp_path, RunConfig(name="both").with_value("hardware.gpus", "all"))
    queue.add(both)
    queue.add(_runs(tmp_path, 1)[0])
    runner = QueueRunner(queue, lambda: _TWO, lambda: at_work)
    assert runner.start_next() is None
    assert runner.waiting_for == "its cards to be free"

    at_work.clear()
    process = runner.start_next()
    assert process is not None
    assert psutil.Process(process.pid).environ()["QLORA_STUDIO_RANKS"] == "GPU-a,GPU-b"
    assert runner.start_next() is None, "a card of a run at work was given away"
    assert [folder.path for folder in runner.current] == [both.path.resolve()]
    process.kill()
    process.wait(30)


def test_a_run_is_queued_once_and_can_be_taken_out(tmp_path: Path) -> None:
    queue = RunQueue(tmp_path)
    first, second = _runs(tmp_path, 2)
    for folder in (first, second, first):
        queue.add(folder)
    assert [run.folder.path.name for run in queue.runs()] == [first.path.name, second.path.name]
    assert queue.remove(first)
    assert not queue.remove(first)
    assert len(queue.runs()) == 1
