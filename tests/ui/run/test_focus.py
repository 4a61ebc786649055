"""The keyboard follows a run: to pause while it trains, and on to what comes next when it is over."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QPushButton, QWidget

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.commands import Pause
from qlora_studio.core.run.events import Event, Paused, PhaseChanged, StepDone, WorkerStarted
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.run.page import RunPage
from qlora_studio.ui.state.asked import Asked
from qlora_studio.ui.state.run_store import RunStore
from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.page import Page
from tests.ui.taken_events import take


class _Training(Page):
    name, title = "training", "Training"

    def __init__(self) -> None:
        super().__init__()
        self.start = QPushButton("Start")
        self.body.addWidget(self.start)


def _focused() -> str:
    widget = QApplication.focusWidget()
    return widget.text() if isinstance(widget, QPushButton) else repr(widget)


class _Scene:
    """A run in a window whose user has just started it. `seen` is where the focus was after each thing."""

    def __init__(self, folder: Path) -> None:
        self.window, self.training, self.page = MainWindow(QWidget()), _Training(), RunPage()
        self.window.add_page(self.training)
        self.window.add_page(self.page)
        self.window.show_page("training")
        self.window.show()
        self.come_back()
        self.training.start.setFocus()
        self.store, self.seen = RunStore(), list[str]()
        self.store.open(RunFolder(folder), RunConfig())
        self.page.render_run(self.store)
        self.window.show_page("run")

    def come_back(self) -> None:
        self.window.activateWindow()
        assert QTest.qWaitForWindowActive(self.window)

    def show(self, *events: Event, asked: Asked | None = None) -> None:
        take(self.store, events)
        self.page.render_run(self.store, asked=asked)
        self.seen.append(_focused())

    def begin(self) -> None:
        self.show(WorkerStarted(job="train", studio="test", pid=1))
        step = StepDone(step=1, total_steps=9, epoch=0.1, loss=1.0, learning_rate=1e-4)
        self.show(PhaseChanged(phase="training"), step)

    def pause(self) -> Asked:
        self.button("Pause").setFocus()
        asked = Asked(Pause(), self.store.state)
        self.show(asked=asked)
        return asked

    def button(self, words: str) -> QPushButton:
        return next(button for button in self.page.findChildren(QPushButton) if button.text() == words)


@pytest.fixture
def scene(qapp: QApplication, tmp_path: Path) -> Iterator[_Scene]:
    scene = _Scene(tmp_path)
    scene.begin()
    yield scene
    scene.window.close_now()


def test_the_focus_goes_from_start_to_pause_and_from_there_to_resume(scene: _Scene) -> None:
    scene.button("Stop and save").setFocus()
    scene.show()  # who goes to another button stays there
    asked = scene.pause()
    scene.show(PhaseChanged(phase="saving"), asked=asked)  # not to Stop: another Space would end what is paused
    scene.show(Paused(step=1, checkpoint="checkpoint-1"), asked=asked)
    assert scene.seen == ["Stop", "Pause", "Stop and save", "More", "More", "Resume"]


def test_who_looked_elsewhere_meanwhile_comes_back_to_resume(scene: _Scene) -> None:
    asked = scene.pause()
    other = QWidget()
    other.show()
    other.activateWindow()
    assert QTest.qWaitForWindowActive(other)
    scene.show(Paused(step=1, checkpoint="checkpoint-1"), asked=asked)
    scene.come_back()
    assert _focused() == "Resume"


def test_who_went_to_another_page_meanwhile_comes_back_to_resume(scene: _Scene) -> None:
    asked = scene.pause()
    scene.window.show_page("training")
    scene.training.start.setFocus()
    scene.show(Paused(step=1, checkpoint="checkpoint-1"), asked=asked)
    assert scene.training.start.hasFocus()
    scene.window.show_page("run")
    assert _focused() == "Resume"
