"""Nothing on a page is cut, squeezed or covered, in a small window either, in the states that a person meets most."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QRect, QSize
from PySide6.QtWidgets import QApplication, QPushButton, QWidget

from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.comparison.page import ComparisonPage
from qlora_studio.ui.kit.text import ElidedLabel, Label
from qlora_studio.ui.kit.widgets import column
from qlora_studio.ui.run.page import RunPage
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.training.page import TrainingPage
from tests.ui.states.layout_faults import faults_of
from tests.ui.states.stage import Looks, Stage
from tests.ui.states.written_runs import write_runs


@pytest.fixture
def stage(qapp: QApplication, studio_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as home:  # a short path, as a person's is: the window says where runs lie
        monkeypatch.setenv("QLORA_STUDIO_HOME", home)
        with Stage(qapp, Path(home), Looks(sizes=("1024x640", "1280x720"))) as stage:
            yield stage


def test_no_page_has_a_fault_before_anything_was_done_and_the_main_button_stays_in_sight(stage: Stage) -> None:
    stage.open()
    for name in stage.window.pages:
        stage.window.show_page(name)
        stage.shoot(name)
    assert stage.looks.faults == []
    page = stage.show(TrainingPage)
    stage.shoot("training", end=True)
    button = page.start_button
    assert button.visibleRegion().boundingRect() == button.rect(), "though the form is scrolled to its end"
    stage.actions.toast.tell("Undone: Rank 32 → 16")
    stage.rest()
    assert list(faults_of(stage.actions.toast)) == [], "the first words are as whole as the next"


def test_no_page_has_a_fault_with_many_runs_in_every_state(stage: Stage) -> None:
    runs = write_runs(stage.home / "runs")
    with runs["training"].lock():
        stage.open()
        for name in ("training", "memory", "finished"):
            _open(stage, runs[name])
            stage.shoot(name)
        runs_page = stage.show(RunsPage)
        stage.wait(runs_page.model.rowCount)
        stage.shoot("runs")
        assert runs_page.table.horizontalScrollBar().maximum() == 0, "no column is out of sight"
        runs_page.compare_requested.emit([str(runs[name].path) for name in ("finished", "wider", "hotter", "longer")])
        comparison = stage.page(ComparisonPage)
        stage.wait(lambda: comparison.table.lines.columnCount() == 4)
        stage.shoot("comparison")
        assert comparison.table.horizontalScrollBar().maximum() == 0, "four runs are in sight together"
        for name in ("export", "chat"):
            stage.window.show_page(name)
            stage.shoot(name)
    assert stage.looks.faults == []


def test_what_is_cut_squeezed_or_covered_is_found(qapp: QApplication) -> None:
    whole = QWidget()
    box = column(whole)
    figure, button, lines = ElidedLabel("1,234,567 tokens"), QPushButton("Press me"), Label("a b c d " * 9, wrap=True)
    for part in (figure, button, lines):
        box.addWidget(part)
    whole.resize(300, 200)
    whole.show()
    qapp.processEvents()
    assert list(faults_of(whole)) == []
    whole.layout().setEnabled(False)  # type: ignore[union-attr]
    figure.resize(30, 20)
    button.resize(20, 30)
    lines.setGeometry(QRect(button.pos() + QPoint(0, 4), QSize(60, 10)))
    found = " ".join(faults_of(whole))
    for words in ("a figure is cut", "a button is squeezed", "lines are lost", "lies over"):
        assert words in found


def _open(stage: Stage, run: RunFolder) -> None:
    stage.studio.runs.open(run)
    page = stage.show(RunPage)
    stage.wait(lambda: page._heading.whole_text() == run.config().name)
