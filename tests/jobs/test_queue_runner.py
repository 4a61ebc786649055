"""The queue starts one run after another, each when the card is free enough."""

import time
from pathlib import Path

from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.jobs.queue_runner import QueueRunner
from qlora_studio.jobs.worker_process import wait_until_free
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.storage.runs.run_queue import RunQueue


def _runs(path: Path, count: int) -> list[RunFolder]:
    """Runs without a model: their real workers start, say what is missing, and end."""
    return [create_run_folder(path, RunConfig(name=f"run {number}")) for number in range(count)]


def test_runs_are_started_in_order_one_at_a_time(tmp_path: Path) -> None:
    queue = RunQueue(tmp_path)
    folders = _runs(tmp_path, 3)
    for folder in folders:
        queue.add(folder)
    runner = QueueRunner(queue, lambda: None)
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
    runner = QueueRunner(queue, lambda: 999)
    assert runner.start_next() is None
    assert runner.waiting_for == "the card to be free enough"
    assert [run.path for run in queue.runs()] == [str(folder.path.resolve())]


def test_a_run_is_queued_once_and_can_be_taken_out(tmp_path: Path) -> None:
    queue = RunQueue(tmp_path)
    first, second = _runs(tmp_path, 2)
    for folder in (first, second, first):
        queue.add(folder)
    assert [run.folder.path.name for run in queue.runs()] == [first.path.name, second.path.name]
    assert queue.remove(first)
    assert not queue.remove(first)
    assert len(queue.runs()) == 1
