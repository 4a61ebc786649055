"""The keyboard follows a run: to pause while it trains, and on to what comes next when it is over."""

from pathlib import Path

from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QPushButton, QWidget

from qlora_studio.core.run.commands import Pause
from qlora_studio.core.run.events import Event, Paused, PhaseChanged, StepDone, WorkerStarted
from qlora_studio.core.run.run_config import RunConfig
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


def test_the_focus_goes_from_start_to_pause_and_from_there_to_resume(qapp: QApplication, tmp_path: Path) -> None:
    window, training, page = MainWindow(QWidget()), _Training(), RunPage()
    window.add_page(training)
    window.add_page(page)
    window.show_page("training")
    window.show()
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    training.start.setFocus()

    store, seen = RunStore(), []
    store.open(RunFolder(tmp_path), RunConfig())

    def show(*events: Event, asked: Asked | None = None) -> None:
        take(store, events)
        page.render_run(store, asked=asked)
        seen.append(_focused())

    page.render_run(store)
    window.show_page("run")
    show(WorkerStarted(job="train", studio="test", pid=1))
    show(PhaseChanged(phase="training"), StepDone(step=1, total_steps=9, epoch=0.1, loss=1.0, learning_rate=1e-4))
    stop = next(button for button in page.findChildren(QPushButton) if button.text() == "Stop and save")
    stop.setFocus()
    show()  # who goes to another button stays there
    pause = next(button for button in page.findChildren(QPushButton) if button.text() == "Pause")
    pause.setFocus()
    asked = Asked(Pause(), store.state)
    show(asked=asked)
    show(Paused(step=1, checkpoint="checkpoint-1"), asked=asked)
    window.close_now()
    assert seen == ["Stop", "Pause", "Stop and save", "More", "Resume"]
