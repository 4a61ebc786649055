"""Runs are put in order, chosen, named and thrown away: as values, on the page, and in the real window."""

import os
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import is_zipfile

import pytest
from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QMessageBox, QPushButton

from qlora_studio.core.run.events import Finished
from qlora_studio.storage.run_care.run_label import RunLabel, read_label
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.settings import load_settings
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.comparison.page import ComparisonPage
from qlora_studio.ui.comparison.wiring import ComparisonWiring
from qlora_studio.ui.kit.letters import plain
from qlora_studio.ui.run.page import RunPage
from qlora_studio.ui.runs.label_dialog import LabelDialog
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.runs.report_dialog import ReportDialog
from qlora_studio.ui.runs.run_file import CommandDialog, RunFiles
from qlora_studio.ui.runs.taking import RunsTaking
from qlora_studio.ui.runs.view import (
    COLUMNS,
    command_lines,
    heading,
    matching,
    ordered,
    removal_question,
    shown_columns,
)
from qlora_studio.ui.showcase.sample_run import write_sample_run
from qlora_studio.ui.state.run_line import RunLine
from qlora_studio.ui.state.run_list import RunsList
from qlora_studio.ui.sweep.wiring import SweepWiring
from qlora_studio.ui.training.page import TrainingPage
from tests.cli.conftest import run_cli

WaitUntil = Callable[[Callable[[], object]], None]
LEFT = Qt.MouseButton.LeftButton
LINES = (
    RunLine("/r/c", "run 10", "B", "finished", 4, 10, 0.5, 3.0, label=RunLabel(tags=("sweep",)), size=5 << 20),
    RunLine("/r/b", "Run 2", "A", "failed", 9, 10, None, 2.0, label=RunLabel(note="too hot"), size=1 << 20),
    RunLine("/r/a", "alpha", "C", "paused", 1, 10, 0.25, 1.0, size=2 << 20),
)


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("name", "abc"),
        ("model", "bca"),
        ("state", "bca"),
        ("steps", "acb"),
        ("loss", "acb"),
        ("when", "abc"),
        ("size", "bac"),
        ("folder", "abc"),
        ("", "cba"),
        ("of tomorrow", "cba"),
    ],
)
def test_runs_stand_in_the_order_of_any_column(column: str, names: str) -> None:
    assert "".join(line.path[-1] for line in ordered(LINES, column)) == names


def test_what_is_not_known_stands_last_both_ways() -> None:
    assert [ordered(LINES, "loss", descending=falls)[-1].path for falls in (False, True)] == ["/r/b", "/r/b"]
    assert all(ordered(LINES, column) for column in COLUMNS)


def test_runs_are_found_by_name_tag_model_note_and_folder() -> None:
    found = [[line.path for line in matching(LINES, text)] for text in ("SWEEP", "hot run", "a", "r 5", "")]
    assert found[:2] == [["/r/c"], ["/r/b"]] and len(found[4]) == 3 and not found[3]


def test_tags_are_shown_as_soon_as_there_are_any_and_a_narrow_page_keeps_what_it_is_ordered_by() -> None:
    assert "tags" in shown_columns((), LINES, order="", narrow=False)
    assert "tags" not in shown_columns((), LINES[1:], order="", narrow=False)
    assert shown_columns(("size", "gone"), LINES, order="", narrow=False) == {"name", "size"}
    assert {"size", "when"} & shown_columns((), LINES, order="size", narrow=True) == {"size"}
    assert "size" not in shown_columns((), LINES, order="", narrow=True)


def test_the_heading_says_what_all_runs_take_once_all_are_measured() -> None:
    assert heading(LINES, "~/runs") == "3 runs · 8.0 MiB on disk · ~/runs"
    assert heading((*LINES, RunLine("/r/d", "d", busy=True)), "") == "4 runs · 1 at work"


def test_before_runs_are_thrown_away_it_is_said_what_that_frees_and_which_others_go_on_from_them() -> None:
    child = RunLine("/r/d", "child", parent="alpha")
    question, more = removal_question(LINES[2:], (*LINES, child))
    assert question == "Move alpha to the trash?"
    assert "2.0 MiB" in more and "once the trash is emptied" in more and "child goes on from it." in more


@pytest.mark.parametrize("run", ["/r/a", "/r/two words", "/r/it's $HOME", 'C:/r/"x"'])
def test_the_command_line_names_the_run_file_in_any_folder(run: str) -> None:
    (_, posix), (_, windows) = command_lines(run)
    assert shlex.split(posix) == ["qlora-studio", "train", str(Path(run) / "run.toml")]
    quoted = windows.removeprefix("qlora-studio train ")
    assert quoted[0] == quoted[-1] == "'" and quoted[1:-1].replace("''", "'") == str(Path(run) / "run.toml")


@pytest.fixture
def page(qapp: QApplication) -> RunsPage:
    page = RunsPage()
    page.resize(1100, 700)
    page.show()
    page.render_runs(LINES)
    return page


def test_a_click_on_a_heading_orders_another_one_turns_it_and_the_selection_stays(page: RunsPage) -> None:
    told: list[tuple[tuple[str, ...], str]] = []
    page.view_changed.connect(lambda columns, order: told.append((columns, order)))
    page.table.selectRow(1)
    header = page.table.horizontalHeader()
    for _ in range(2):
        place = header.sectionViewportPosition(0) + 10
        QTest.mouseClick(header.viewport(), LEFT, pos=header.rect().center().__class__(place, 10))
    assert told == [((), "name"), ((), "-name")]
    assert [page.model.row(row).path for row in range(3)] == ["/r/c", "/r/b", "/r/a"]
    selected = page.selected()
    assert selected is not None and selected.path == "/r/b"


def test_several_runs_are_compared_tagged_and_thrown_away_together_and_nothing_else(page: RunsPage) -> None:
    asked: list[tuple[str, list[str]]] = []
    page.compare_requested.connect(lambda paths: asked.append(("compare", paths)))
    page.delete_requested.connect(lambda paths: asked.append(("delete", paths)))
    page.table.selectAll()
    assert page.remark.text() == "3 runs selected · 8.0 MiB on disk"
    assert not page.open_button.isEnabled() and page.compare_button.isEnabled()
    actions = page.actions_of_runs
    QTest.mouseClick(page.compare_button, LEFT)
    page.table.setFocus()
    actions.delete.trigger()
    assert asked == [(name, ["/r/c", "/r/b", "/r/a"]) for name in ("compare", "delete")]
    page.render_runs((RunLine("/r/d", "d", busy=True),))
    assert not actions.delete.isEnabled() and actions.label.isEnabled() and not actions.compare.isEnabled()


def test_the_name_keeps_its_room_however_many_columns_are_chosen(page: RunsPage) -> None:
    page.render_view(("name", "state"), "")
    wide = page.table.columnWidth(0)
    page.render_view(tuple(COLUMNS), "")
    assert wide > page.table.columnWidth(0) >= 150


def test_the_command_line_is_copied(qapp: QApplication, page: RunsPage) -> None:
    dialog = CommandDialog(page, "/r/a")
    QTest.mouseClick(dialog.copy_buttons[0], LEFT)
    assert qapp.clipboard().text() == "qlora-studio train /r/a/run.toml"


@pytest.fixture
def app_window(
    qapp: QApplication, studio_home: Path, tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AppWindow]:
    write_sample_run(studio_home / "runs" / "2-second", steps=20, ending=Finished())
    write_sample_run(studio_home / "runs" / "1-first", steps=20, ending=Finished())
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))  # where Linux has its trash
    window, done = AppWindow(), list[bool]()
    window.completed.connect(lambda: done.append(True))
    window.show()
    wait_until(lambda: done)
    yield window
    window.end()
    window.window.close_now()
    window.deleteLater()


def test_in_the_window_a_run_is_named_ordered_saved_packed_opened_thrown_away_and_taken_in(
    app_window: AppWindow, studio_home: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    page = app_window.window.pages["runs"]
    assert isinstance(page, RunsPage) and app_window.studio is not None
    app_window.window.show_page("runs")
    wait_until(lambda: page.model.rowCount() == 2 and "on disk" in page._subtitle.text())
    page.table.selectRow(1)

    def name_it() -> None:
        dialog = QApplication.activeModalWidget()
        assert isinstance(dialog, LabelDialog)
        QTest.keyClicks(dialog.name, "Baseline")
        QTest.keyClicks(dialog.tags, "good, old")
        dialog.buttons.buttons()[0].click()

    QTimer.singleShot(0, name_it)
    page.actions_of_runs.label.trigger()
    first = RunFolder(studio_home / "runs" / "1-first")
    assert read_label(first) == RunLabel(name="Baseline", tags=("good", "old"))
    wait_until(lambda: page.model.row(1).name == "Baseline")
    page.view_actions.order["name"].trigger()
    assert load_settings().runs_order == "name"

    [files] = app_window.window.findChildren(RunFiles)
    files.save(str(first.path), tmp_path / "kept.toml")
    files.pack(str(first.path), tmp_path / "report.zip")
    wait_until(lambda: page.summary.isVisible())
    assert "No rows, prompts" in page.summary.message.text() and is_zipfile(tmp_path / "report.zip")
    files.open(tmp_path / "nothing.toml")
    assert "nothing.toml is not there" in page.notice.message.text()
    before, training = app_window.studio.draft.config, app_window.window.pages["training"]
    files.open(tmp_path / "kept.toml")
    assert app_window.window.current_page() is training and isinstance(training, TrainingPage)
    assert "kept.toml" in training.takeover.title_label.text() and app_window.studio.draft.config == before
    QTest.keyClick(training.takeover.take, Qt.Key.Key_Space)
    assert app_window.studio.draft.config == first.config() and not page.notice.isVisible()
    training.takeover.undo.click()
    assert app_window.studio.draft.config == before
    app_window.window.show_page("runs")

    first_settings = first.config_path.read_text()

    def throw_it_away() -> None:
        box = QApplication.activeModalWidget()
        assert isinstance(box, QMessageBox) and "Baseline" in box.text()
        next(button for button in box.findChildren(QPushButton) if plain(button.text()) == "Move to the trash").click()

    page.table.selectRow(0)
    QTimer.singleShot(0, throw_it_away)
    page.actions_of_runs.delete.trigger()
    wait_until(lambda: page.model.rowCount() == 1)
    assert not first.path.exists() and list((tmp_path / "data" / "Trash" / "files").iterdir())
    assert not page.notice.isVisible()

    [taking] = app_window.window.findChildren(RunsTaking)
    taking.take_in(tmp_path / "report.zip")  # no run is in that
    wait_until(lambda: "it has no run.toml" in page.notice.message.text())
    strange = tmp_path / "3-theirs"
    strange.mkdir()
    (strange / "run.toml").write_text(first_settings)
    taking.take_in(strange)
    wait_until(lambda: page.model.rowCount() == 2)
    assert "3-theirs is among the runs now" in page.summary.message.text() and not page.taking.isVisible()
    page.table.selectRow([page.model.row(row).path.endswith("3-theirs") for row in range(2)].index(True))
    assert page.distrust.isVisible() and not page.resume_button.isEnabled() and page.open_button.isEnabled()
    _stop_taking_in(taking, page, strange)


def _stop_taking_in(taking: RunsTaking, page: RunsPage, source: Path) -> None:
    """Of a run whose copy is stopped nothing stays, and the one that waits is not begun."""
    (source / "worker.log").touch()
    os.truncate(source / "worker.log", 256 << 20)
    told: list[str] = []
    taking._copier.failed.connect(lambda error: told.append(error.message))
    page.taking_requested.emit(str(source))
    page.taking_requested.emit(str(source))
    assert page.taking.isVisible() and "1 more" in page.taking.message.text()
    QTest.mouseClick(page.stop_taking, LEFT)
    deadline = time.monotonic() + 20
    while page.taking.isVisible() and time.monotonic() < deadline:
        QTest.qWait(10)
    assert told == ["Nothing was taken in: it was stopped."] == [page.summary.message.text()]
    assert not page.notice.isVisible() and page.model.rowCount() == 2
    runs = Path(page.model.row(0).path).parent
    assert len([path for path in runs.iterdir() if path.is_dir()]) == 2


def test_what_a_run_is_called_is_said_everywhere_at_once_whoever_renames_it(
    app_window: AppWindow, studio_home: Path, wait_until: WaitUntil
) -> None:
    window, studio = app_window.window, app_window.studio
    run, comparison = window.pages["run"], window.pages["comparison"]
    assert studio is not None and isinstance(run, RunPage) and isinstance(comparison, ComparisonPage)
    folder = RunFolder(studio_home / "runs" / "1-first")
    studio.runs.open(folder)
    [compared] = window.findChildren(ComparisonWiring)
    compared.open([str(folder.path), str(studio_home / "runs" / "2-second")])
    wait_until(lambda: len(comparison._comparison.names) == 2)

    window.show_page("run")
    wait_until(lambda: run._heading.text() == "support-bot")
    run_cli("rename", str(folder.path), "Baseline", home=studio_home)
    wait_until(lambda: run._heading.text() == "Baseline")
    assert studio.status().subject == "Baseline"
    [runs_list] = studio.findChildren(RunsList)
    window.show_page("comparison")
    runs_list.refresh()
    wait_until(lambda: "Baseline" in comparison._comparison.names)
    [sweep] = window.findChildren(SweepWiring)
    sweep.open(str(folder.path))
    assert sweep.dialog is not None
    assert any(label.text() == "Run Baseline again" for label in sweep.dialog.findChildren(QLabel))
    sweep.dialog.reject()


def test_a_report_holds_the_users_text_only_where_that_is_ticked_and_it_is_said_what_that_is(page: RunsPage) -> None:
    dialog = ReportDialog(page, "Baseline", "chats.jsonl")
    words = " ".join(label.text() for label in dialog.findChildren(QLabel))
    assert "the first 100 rows of chats.jsonl" in words and "your own text" in words
    assert not dialog.with_data.isChecked()


def test_where_a_selected_run_is_gone_the_next_one_is_selected(page: RunsPage) -> None:
    lines = page.model.rows()
    page.table.selectRow(1)
    page.render_runs([lines[0], lines[2]])
    selected = page.selected()
    assert selected is not None and selected.path == lines[2].path
    page.render_runs([lines[0]])
    selected = page.selected()
    assert selected is not None and selected.path == lines[0].path
    page.render_runs([])
    assert page.selected() is None
