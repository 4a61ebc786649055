"""The card of curves: what is chosen is shown, its table stays in step, and what it saves is what was drawn."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDialogButtonBox, QFileDialog, QLineEdit, QMenu, QPushButton

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.events import Evaluated, Resumed
from qlora_studio.core.run.metric_history import MetricHistory
from qlora_studio.core.run.run_state import RunState, fold
from qlora_studio.ui.kit.tables import Table
from qlora_studio.ui.run.plot_card import PlotCard
from qlora_studio.ui.showcase.sample_run import sample_events
from tests.ui.conftest import WaitUntil


class _Shown:
    """A card with the sample run of 60 steps, and the hands to use it."""

    def __init__(self, wait: WaitUntil) -> None:
        self.wait = wait
        self.events = [*sample_events(60)]
        self.history = MetricHistory()
        self.history.extend(self.events)
        self.card = PlotCard()
        self.card.resize(900, 420)
        self.card.show()
        self.render()

    def render(self) -> None:
        self.card.render_history(self.history, (), fold(RunState(), self.events), "my run")
        self.wait(self.card.is_plot_ready)

    def button(self, text: str) -> QPushButton:
        [found] = [button for button in self.card.findChildren(QPushButton) if button.text().startswith(text)]
        return found

    def click(self, text: str) -> None:
        QTest.mouseClick(self.button(text), Qt.MouseButton.LeftButton)

    def choose(self, button: str, action: str) -> None:
        menu = self.button(button).menu()
        assert isinstance(menu, QMenu)
        [found] = [item for item in menu.actions() if item.text().startswith(action)]
        assert found.isEnabled()
        found.trigger()

    def save(self, action: str, path: Path) -> None:
        """Choose to save, and name the file in the dialog."""
        self.choose("save", action)
        [dialog] = self.card.findChildren(QFileDialog)
        self.wait(dialog.isVisible)
        [field] = dialog.findChildren(QLineEdit)
        field.setText(str(path))
        [buttons] = dialog.findChildren(QDialogButtonBox)
        QTest.mouseClick(buttons.button(QDialogButtonBox.StandardButton.Save), Qt.MouseButton.LeftButton)


@pytest.fixture
def shown(qapp: QApplication, wait_until: WaitUntil) -> Iterator[_Shown]:
    """The card on the screen."""
    shown = _Shown(wait_until)
    yield shown
    shown.card.close()


def test_what_comes_while_a_drawing_is_fresh_is_drawn_a_moment_later_all_at_once(shown: _Shown) -> None:
    drawings: list[int] = []
    shown.card._pause.timeout.connect(lambda: drawings.append(1))
    for _ in range(5):
        shown.card.render_history(shown.history, (), fold(RunState(), shown.events), "my run")
        assert not shown.card.is_plot_ready()
    shown.wait(shown.card.is_plot_ready)
    assert len(drawings) == 1


def test_one_metric_is_shown_or_all_of_them_over_one_x(shown: _Shown) -> None:
    plots = shown.card._plots
    assert [plot.plot().title for plot in plots.plots()] == ["Loss"]
    shown.click("All")
    titles = ["Loss", "Learning rate", "Gradient norm", "Throughput", "Memory"]
    assert [plot.plot().title for plot in plots.plots()] == titles
    shown.choose("view", "over tokens")
    assert {plot.plot().x_title for plot in plots.plots()} == {"tokens"}
    shown.click("Gradient norm")
    assert [plot.plot().title for plot in plots.plots()] == ["Gradient norm"]
    shown.choose("view", "smoothing off")
    assert plots.plots()[0].plot().curves[0].smooth is None


def test_what_is_zoomed_to_stays_until_follow_is_clicked_and_follow_off_holds_still(shown: _Shown) -> None:
    [plot] = shown.card._plots.plots()
    follow = shown.button("follow")
    assert follow.isChecked()
    plot.setFocus()
    QTest.keyClick(plot, Qt.Key.Key_Plus)
    assert not follow.isChecked()
    zoomed = plot.frame().x
    shown.render()
    assert plot.frame().x == zoomed
    shown.click("follow")
    assert follow.isChecked() and plot.frame().x == (0.0, 790.0)
    shown.click("follow")
    assert not follow.isChecked()


def test_the_table_has_what_is_zoomed_to_and_grows_with_the_run(shown: _Shown) -> None:
    [plot], [table] = shown.card._plots.plots(), shown.card.findChildren(Table)
    shown.click("table")
    model = table.model()
    assert model.rowCount() == 61, "the evaluation before the first step has a row, too"
    assert [model.index(0, column).data() for column in range(3)] == ["0", "–", "2.270"]
    more = [*sample_events(62)][-2:]
    shown.events += more
    shown.history.extend(more)
    shown.render()
    assert model.rowCount() == 63
    plot.show_x((9.5, 20.5))
    shown.render()
    assert [model.index(row, 0).data() for row in (0, model.rowCount() - 1)] == ["10", "20"]


def test_a_table_of_steps_that_are_taken_again_can_still_be_looked_at(shown: _Shown) -> None:
    rows = shown.card.rows()
    shown.history.extend([Resumed(step=3, checkpoint="checkpoint-3")])
    assert rows[60][0] == 60
    assert len(shown.card.rows()) == 4


def test_the_numbers_are_saved_with_every_figure(shown: _Shown, tmp_path: Path) -> None:
    shown.history.extend([Evaluated(step=60, loss=1 / 3, perplexity=None)])
    shown.render()
    shown.save("Save the numbers", tmp_path / "numbers")
    path = tmp_path / "numbers.csv"
    shown.wait(path.exists)
    lines = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [line["step"] for line in lines] == [str(step) for step in range(61)]
    loss = np.array([float(line["train loss"]) for line in lines[1:]])
    np.testing.assert_array_equal(loss, shown.history.steps["loss"].y)
    assert lines[-1]["evaluation loss"] == repr(1 / 3)
    assert (lines[0]["train loss"], lines[5]["evaluation loss"]) == ("", "")
    assert (lines[-1]["tokens"], lines[-1]["epoch"]) == (repr(60 * 13_000.0), repr(60 / 395))


def test_pictures_and_drawings_are_saved_and_copied(shown: _Shown, tmp_path: Path) -> None:
    for action, name in (("Save a picture", "curves.png"), ("Save a drawing", "curves.svg")):
        shown.save(action, tmp_path / name)
        shown.wait((tmp_path / name).exists)
    assert QImage(str(tmp_path / "curves.png")).width() > 1000
    assert "my run" in (tmp_path / "curves.svg").read_text()
    shown.choose("save", "Copy the picture")
    assert QGuiApplication.clipboard().image().width() > 1000
    shown.choose("save", "Copy the numbers")
    shown.wait(lambda: QGuiApplication.clipboard().text().startswith("step\tepoch\ttokens\t"))


def test_a_file_that_cannot_be_written_is_told(shown: _Shown, tmp_path: Path) -> None:
    told: list[StudioError] = []
    shown.card.failed.connect(told.append)
    (tmp_path / "file").write_text("in the way")
    shown.card._save._write(tmp_path / "file" / "curves.png", lambda: b"")
    shown.wait(lambda: told)
    assert "Cannot write" in told[0].message


@pytest.mark.parametrize("width", [520, 730, 1400])
def test_metrics_and_tools_stand_in_one_row_and_every_metric_can_be_chosen(
    shown: _Shown, qapp: QApplication, width: int
) -> None:
    shown.card.resize(width, 420)
    qapp.processEvents()
    buttons = [button for button in shown.card.findChildren(QPushButton) if button.isVisible()]
    middles = [button.mapTo(shown.card, button.rect().center()).y() for button in buttons]
    assert max(middles) - min(middles) <= 1
    assert shown.card._tabs_row.isVisible() == (width >= 730), "as wide as in a window of 1280 pixels"
    if width == 520:
        menu = shown.card._metric.menu()
        assert isinstance(menu, QMenu)
        next(action for action in menu.actions() if action.text() == "Gradient norm").trigger()
    else:
        shown.click("Gradient norm")
    assert [plot.plot().title for plot in shown.card._plots.plots()] == ["Gradient norm"]
