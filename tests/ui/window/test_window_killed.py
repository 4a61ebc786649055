"""The window is killed in mid-run: the worker trains on, and the next window shows all of it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PySide6.QtWidgets import QApplication

from qlora_studio.core.run.activity import Phase
from qlora_studio.storage.runs.run_folder import RunFolder, run_folders
from qlora_studio.storage.settings import Settings, save_settings
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.run.plot_card import PlotCard
from qlora_studio.ui.window.rail import RailButton
from tests.engine.training_run import wait_for, write_rows
from tests.ui.window_driver import Person

_ROOT = Path(__file__).parents[3]


@pytest.fixture
def window_process(xvfb: str, tiny_llama: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A window on a display, in a process of its own, that starts a run of the tiny model."""
    data = write_rows(tmp_path / "rows.jsonl", 160)
    save_settings(Settings(last_model=str(tiny_llama), last_data=str(data)))
    environment = {**os.environ, "DISPLAY": xvfb, "QT_QPA_PLATFORM": "xcb"}
    with (tmp_path / "window.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.ui.window.window_process"], cwd=_ROOT, env=environment, stdout=log, stderr=log
        )
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def run(window_process: subprocess.Popen[bytes], studio_home: Path, tmp_path: Path) -> Iterator[RunFolder]:
    """The run that the window started, some steps on its way."""
    log = tmp_path / "window.log"

    def is_under_way() -> bool:
        assert window_process.poll() is None, log.read_text("utf-8")
        return any(folder.state().step >= 2 for folder in run_folders(studio_home / "runs"))

    wait_for(is_under_way, 120)
    (folder,) = run_folders(studio_home / "runs")
    pid = folder.state().pid
    yield folder
    if folder.is_busy():
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).kill()


@pytest.fixture
def open_window(qapp: QApplication) -> Iterator[Callable[[], Person]]:
    """Opens the window."""
    opened: list[Person] = []

    def open_it() -> Person:
        opened.append(Person(AppWindow()))
        opened[0].app_window.show()
        opened[0].sit_down()
        return opened[0]

    yield open_it
    opened[0].leave()


def test_a_window_that_is_asked_to_close_closes(open_window: Callable[[], Person]) -> None:
    person = open_window()
    person.window.close()
    person.wait(lambda: not person.window.isVisible(), "the window to close", 10)


@pytest.mark.timeout(600)
def test_a_run_survives_its_window_and_the_next_window_shows_all_of_it(
    open_window: Callable[[], Person], window_process: subprocess.Popen[bytes], run: RunFolder
) -> None:
    os.kill(window_process.pid, signal.SIGKILL)
    window_process.wait()
    at_death = run.state().step
    assert run.is_busy(), "the worker died with its window"
    person = open_window()
    person.wait(lambda: person.window.status_line.status().subject == "my-run", "the run in the status line", 30)
    person.click("Run", RailButton)
    plots = person.window.current_page().findChild(PlotCard)
    assert plots is not None
    person.wait(lambda: len(plots.smoothed_loss()) > at_death, "steps that were taken without a window", 120)
    person.wait(lambda: person.sees("Continue to Export"), "the end of the run", 400)
    state = run.state()
    assert state.phase is Phase.FINISHED
    shown = person.app_window.studio.runs.shown if person.app_window.studio else None
    assert shown is not None
    assert list(shown.store.history.steps["loss"].x) == list(range(1, state.total_steps + 1))
    assert len(plots.smoothed_loss()) == state.total_steps > at_death
