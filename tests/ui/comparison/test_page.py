"""The comparison in a real window over real run folders: opened, read, changed, copied, left."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QItemSelectionModel, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.events import Evaluated, Finished, SampleGenerated
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.comparison.page import ComparisonPage
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.showcase.sample_run import sample_config, sample_events

WaitUntil = Callable[[Callable[[], object]], None]
LEFT = Qt.MouseButton.LeftButton


def _write(runs: Path, name: str, config: RunConfig, steps: int = 120) -> RunFolder:
    folder = RunFolder(runs / name)
    folder.write_config(config.model_copy(update={"name": name[2:]}))
    with MessageLogWriter(folder.events_path) as log:
        for event in sample_events(steps):
            log.append(event)
    return folder


@pytest.fixture
def runs(studio_home: Path) -> dict[str, RunFolder]:
    """Three runs: two have ended, of the third nobody said that it did."""
    place, config = studio_home / "runs", sample_config()
    made = {
        "c": _write(place, "3-c", config.with_value("lora.rank", 64)),
        "b": _write(place, "2-b", config.with_value("lora.rank", 8)),
        "a": _write(place, "1-a", config),
    }
    for name in ("a", "b"):
        with MessageLogWriter(made[name].events_path) as log:
            log.append(SampleGenerated(step=120, prompt="Who are you?", answer=f"I am {name}."))
            log.append(Finished())
    return made


@pytest.fixture
def app_window(qapp: QApplication, runs: dict[str, RunFolder], wait_until: WaitUntil) -> Iterator[AppWindow]:
    app_window = AppWindow()
    done: list[bool] = []
    app_window.completed.connect(lambda: done.append(True))
    app_window.show()
    wait_until(lambda: done)
    yield app_window
    app_window.end()
    app_window.window.close_now()
    app_window.deleteLater()


def _cells(page: ComparisonPage, title: str) -> tuple[str, ...]:
    model = page.table.lines
    return next(model.line(row).cells for row in range(model.rowCount()) if model.line(row).title == title)


def _titles(page: ComparisonPage) -> list[str]:
    return [page.table.lines.line(row).title for row in range(page.table.lines.rowCount())]


def test_runs_are_compared_from_the_list_of_runs_until_escape(
    app_window: AppWindow, runs: dict[str, RunFolder], wait_until: WaitUntil
) -> None:
    window = app_window.window
    runs_page, page = window.pages["runs"], window.pages["comparison"]
    assert isinstance(runs_page, RunsPage)
    assert isinstance(page, ComparisonPage)
    window.show_page("runs")
    wait_until(lambda: runs_page.model.rowCount() == 3)
    QTest.qWait(300)  # until the list was read again, as the page asked when it was shown
    flags = QItemSelectionModel.SelectionFlag
    runs_page.table.clearSelection()
    for row in (1, 2):
        runs_page.table.selectionModel().select(runs_page.model.index(row, 0), flags.Select | flags.Rows)
    runs_page.actions_of_runs.compare.trigger()
    assert window.current_page() is page
    wait_until(lambda: page.table.lines.columnCount() == 2)

    # Settings that differ, results, answers, the curves of both.
    assert _cells(page, "LoRA rank") == ("8", "16")
    assert "LoRA alpha" not in _titles(page)
    assert page.answers.prompts.count() == 2
    page.answers.prompts.setCurrentIndex(1)
    page.answers.prompts.activated.emit(1)
    assert {"I am a.", "I am b."} <= {label.text() for label in page.answers.findChildren(Label)}
    assert [curve.name for curve in page.curves.plots.plots()[0].plot().curves] == ["b", "a"]
    QTest.mouseClick(page.curves.tabs["loss"], LEFT)
    [plot] = page.curves.plots.plots()
    assert len(plot.plot().curves[0].x) == 120
    assert plot.plot().curves[0].token != plot.plot().curves[1].token
    assert plot.plot().curves[0].line != plot.plot().curves[1].line
    smooth = plot.plot().curves[0].y.copy()
    QTest.mouseClick(page.curves.smooth, LEFT)
    assert (plot.plot().curves[0].y != smooth).any()

    # What is the same comes on demand; the whole table is copied.
    QTest.mouseClick(page.everything, LEFT)
    assert _cells(page, "LoRA alpha") == ("16", "16")
    QTest.mouseClick(page.copy_button, LEFT)
    lines = QGuiApplication.clipboard().text().splitlines()
    assert lines[0] == "\tb\ta"
    assert "LoRA rank\t8\t16" in lines

    # A third joins, which goes on: what it tells is seen.
    [action] = [action for action in page.menu.actions() if action.text().startswith("c ·")]
    action.trigger()
    wait_until(lambda: page.table.lines.columnCount() == 3)
    assert _cells(page, "LoRA rank") == ("8", "16", "64")
    with MessageLogWriter(runs["c"].events_path) as log:
        log.append(Evaluated(step=120, loss=0.1234, perplexity=None))
    wait_until(lambda: _cells(page, "Held-out loss, last")[2] == "0.1234")

    QTest.keyClick(page.table, Qt.Key.Key_Escape)
    assert window.current_page() is runs_page


def test_a_run_that_cannot_be_read_is_told_and_the_others_are_compared(
    app_window: AppWindow, runs: dict[str, RunFolder], wait_until: WaitUntil
) -> None:
    window = app_window.window
    runs_page, page = window.pages["runs"], window.pages["comparison"]
    assert isinstance(runs_page, RunsPage)
    assert isinstance(page, ComparisonPage)
    runs["b"].config_path.write_text("rank = [", encoding="utf-8")
    runs_page.compare_requested.emit([str(runs[name].path) for name in ("c", "b", "a")])

    wait_until(lambda: page.table.lines.columnCount() == 2 and page.notice.isVisible())
    assert "run.toml" in page.notice.message.text()
    assert page.table.lines.headerData(1, Qt.Orientation.Horizontal) == "a"


def test_a_menu_that_offers_the_same_runs_again_stays_as_it_is(qapp: QApplication) -> None:
    page, runs = ComparisonPage(), [("/r/a", "first"), ("/r/b", "second")]
    page.render_choices(runs, ["/r/a"])
    before = page.menu.actions()
    page.render_choices(runs, ["/r/a"])
    assert page.menu.actions() == before
    page.render_choices(runs, ["/r/b"])
    assert [action.isChecked() for action in page.menu.actions()] == [False, True]
