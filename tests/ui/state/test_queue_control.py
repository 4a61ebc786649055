"""The queue behind the window: one run after another, a summary at the end, and its place in the list of runs."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtWidgets import QApplication

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.jobs.gpu_sample import GpuCard
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.ui.runs.view import with_queue
from qlora_studio.ui.state.queue_control import QueueControl
from qlora_studio.ui.state.run_line import KnownRuns


def test_the_queue_starts_its_runs_and_sums_up(
    qapp: QApplication, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    queue = QueueControl(tmp_path, tuple, tuple)
    started: list[RunFolder] = []
    summaries: list[str] = []
    queue.started.connect(started.append)
    queue.ended.connect(summaries.append)
    for name in ("first", "second"):
        queue.add(create_run_folder(tmp_path, RunConfig(name=name)))
    lines = with_queue(KnownRuns().look(tmp_path), queue.waiting())
    assert {line.name: line.words for line in lines} == {
        "first": "in the queue, no. 1",
        "second": "in the queue, no. 2",
    }

    def summed_up() -> bool:
        queue.tick()
        return bool(summaries)

    wait_until(summed_up)
    assert [folder.config().name for folder in started] == ["first", "second"]
    assert summaries == ["The queue is done: 2 failed."]


def test_nothing_starts_while_another_run_is_at_work(qapp: QApplication, tmp_path: Path) -> None:
    queue = QueueControl(tmp_path, tuple, lambda: [""])
    queue.add(create_run_folder(tmp_path, RunConfig()))
    queue.tick()
    assert len(queue.waiting()) == 1


def test_the_first_run_says_what_it_waits_for(qapp: QApplication, tmp_path: Path) -> None:
    queue = QueueControl(tmp_path, lambda: [GpuCard(0, "GPU-a", "x", 2000, 999)], tuple)
    queue.add(create_run_folder(tmp_path, RunConfig(name="large")), needed_bytes=1000)
    queue.add(create_run_folder(tmp_path, RunConfig(name="next")))
    queue.tick()
    lines = with_queue(KnownRuns().look(tmp_path), queue.waiting(), queue.waits_for())
    assert {line.name: line.words for line in lines} == {
        "large": "in the queue, no. 1: waits for the card to be free enough",
        "next": "in the queue, no. 2",
    }
