"""The pages in the window: what one of them asks for arrives at the draft, at the runs, and at the other pages."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QPushButton, QWidget

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.commands import Pause, Stop, parse_command
from qlora_studio.core.run.events import AdapterSaved, Finished, Paused
from qlora_studio.core.run.job import ChatJob
from qlora_studio.storage.drive_space import DriveSpace, Writing
from qlora_studio.storage.durable import staged_folder
from qlora_studio.storage.models.kept_bases import KeptManifest
from qlora_studio.storage.presets import load_preset
from qlora_studio.storage.runs.message_log import MessageLogReader, MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.settings import load_settings
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.data.page import DataPage
from qlora_studio.ui.kit.theme import DARK, LIGHT, active_theme, apply_theme
from qlora_studio.ui.run.page import RunPage
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.settings.page import SettingsPage
from qlora_studio.ui.settings.wiring import SettingsWiring, versions
from qlora_studio.ui.showcase.sample_run import write_sample_run
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.training.page import TrainingPage
from qlora_studio.ui.window.dialogs import Discarding
from qlora_studio.ui.window.page import Page

WaitUntil = Callable[[Callable[[], object]], None]
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def runs(studio_home: Path) -> Path:
    """A folder of runs: one that is trained, one that broke off."""
    trained = write_sample_run(studio_home / "runs" / "1-trained", steps=790)
    with MessageLogWriter(trained.events_path) as log:
        log.append(AdapterSaved(path="adapter", step=790))
        log.append(Finished())
    write_sample_run(studio_home / "runs" / "2-broken", steps=120)
    return studio_home / "runs"


@pytest.fixture
def app_window(
    qapp: QApplication, runs: Path, tmp_path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AppWindow]:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))  # where Linux has its trash
    app_window = AppWindow()
    done: list[bool] = []
    app_window.completed.connect(lambda: done.append(True))
    app_window.show()
    wait_until(lambda: done)
    yield app_window
    app_window.end()
    app_window.window.close_now()
    app_window.deleteLater()
    apply_theme(qapp, LIGHT)


def show(app_window: AppWindow, name: str) -> Page:
    app_window.window.show_page(name)
    return app_window.window.pages[name]


def studio_of(app_window: AppWindow) -> Studio:
    assert app_window.studio is not None
    return app_window.studio


def is_offered(page: Page, words: str) -> bool:
    return any(button.text() == words and button.isVisible() for button in page.findChildren(QPushButton))


def button(page: Page, words: str) -> QPushButton:
    (found,) = [button for button in page.findChildren(QPushButton) if button.text() == words and button.isVisible()]
    return found


def is_in_sight(widget: QWidget) -> bool:
    """Whether a click in its middle would meet it: the page is laid out, and nothing covers it."""
    window = widget.window()
    return window.childAt(widget.mapTo(window, widget.rect().center())) is widget


def texts(page: Page) -> str:
    return "\n".join(label.text() for label in page.findChildren(QLabel) if label.isVisibleTo(page))


@pytest.fixture
def half_made(runs: Path) -> Path:
    """What an export left that was killed."""
    folder = runs / "1-trained" / "exports" / ".staging-999999999-model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(3 << 20))
    return folder


def test_what_a_killed_export_left_goes_when_the_window_opens_and_the_bottom_line_says_so(
    half_made: Path, app_window: AppWindow, wait_until: WaitUntil
) -> None:
    line = app_window.window.status_line
    wait_until(lambda: "3.0 MiB that interrupted work had left half made were removed." in line.accessibleName())
    assert not half_made.exists()


@pytest.fixture
def kept(studio_home: Path) -> Path:
    """A base in 4 bits that the cache keeps."""
    rooms = studio_home / "cache" / "bases"
    rooms.unlink()  # what tests share
    with staged_folder(rooms / "Qwen--Qwen3-8B-0123") as staged:
        (staged.path / "model.safetensors").write_bytes(bytes(3 << 20))
        staged.manifest = KeptManifest(base="Qwen/Qwen3-8B")
    return rooms / "Qwen--Qwen3-8B-0123"


def test_a_kept_base_is_shown_in_the_settings_stays_while_a_run_is_at_work_and_goes_when_it_is_removed(
    kept: Path, runs: Path, app_window: AppWindow, wait_until: WaitUntil
) -> None:
    page = show(app_window, "settings")
    wait_until(lambda: "Qwen/Qwen3-8B 3.0 MiB." in texts(page))
    errors: list[StudioError] = []
    studio_of(app_window).failed.connect(errors.append)
    with RunFolder(runs / "2-broken").lock():
        QTest.mouseClick(page.remove_bases, LEFT)  # type: ignore[attr-defined]
        wait_until(lambda: errors)
    assert kept.exists() and "2-broken is at work" in errors[0].message
    QTest.mouseClick(page.remove_bases, LEFT)  # type: ignore[attr-defined]
    wait_until(lambda: "None is in the cache." in texts(page))
    assert not kept.exists()


def test_start_without_model_and_data_says_both_and_starts_nothing(app_window: AppWindow) -> None:
    page = show(app_window, "training")
    QTest.mouseClick(page.start_button, LEFT)  # type: ignore[attr-defined]
    assert "Choose a base model." in texts(page)
    assert "Choose a dataset." in texts(page)
    assert app_window.window.current_page() is page
    assert studio_of(app_window).runs.shown is None


def test_the_starter_model_is_chosen_by_one_click_and_the_next_page_by_another(
    app_window: AppWindow, wait_until: WaitUntil
) -> None:
    page = show(app_window, "model")
    QTest.mouseClick(page.source.use_starter, LEFT)  # type: ignore[attr-defined]
    wait_until(lambda: page.continue_button.isEnabled())  # type: ignore[attr-defined]
    assert "134.5 M parameters" in texts(page)
    QTest.mouseClick(page.continue_button, LEFT)  # type: ignore[attr-defined]
    assert app_window.window.current_page().name == "data"


def test_rail_tooltips_and_start_say_the_same_of_a_model_that_is_chosen_lost_and_gone(
    app_window: AppWindow, wait_until: WaitUntil
) -> None:
    draft, page = studio_of(app_window).draft, app_window.window.pages["training"]
    assert isinstance(page, TrainingPage)

    def told(name: str) -> str:
        return app_window.window.rail.button(name).accessibleDescription()

    wait_until(lambda: told("model") == "step 1, to do: Choose a base model.")
    assert told("training") == "step 3, blocked: Choose a base model. Choose a dataset."
    draft.set_values({"model.source": "starter", "data.path": "rows.jsonl"})
    wait_until(lambda: told("model") == "step 1, done")
    assert told("data") == "step 2, to do: Its rows were not looked through yet."
    draft.set_value("model.source", "/nowhere/model")
    model = app_window.window.pages["model"]
    assert "134.5 M parameters" not in texts(model)  # of the model before
    wait_until(lambda: told("model").startswith("step 1, needs attention: There is no model at"))
    assert told("training").startswith("step 3, blocked: There is no model at")
    assert page.start_button.toolTip() and page.start_button.accessibleDescription() in told("training")
    draft.set_value("model.source", "")
    wait_until(lambda: told("training") == "step 3, blocked: Choose a base model.")
    assert told("data").startswith("step 2, blocked: Choose a model first")


def test_a_setting_changed_in_the_form_reaches_the_draft_and_a_wrong_one_does_not(app_window: AppWindow) -> None:
    page = show(app_window, "training")
    form = page.form  # type: ignore[attr-defined]
    QTest.keyClick(form.line("lora.rank").field, Qt.Key.Key_Up)
    assert studio_of(app_window).draft.config.lora.rank == 17
    rate = form.line("training.learning_rate").field
    rate.selectAll()
    QTest.keyClicks(rate, "7")
    QTest.keyClick(rate, Qt.Key.Key_Return)
    assert studio_of(app_window).draft.config.training.learning_rate == 2e-4
    assert "Must be at most 1" in texts(page)


def test_a_preset_says_what_it_would_change_keeps_what_it_leaves_open_and_is_undone(app_window: AppWindow) -> None:
    page, draft = show(app_window, "training"), studio_of(app_window).draft
    assert isinstance(page, TrainingPage)
    draft.set_value("model.source", "maker/model")
    draft.set_value("data.path", "rows.jsonl")
    before = draft.config
    page.preset_requested.emit("14b-24gb")
    assert draft.config == before
    assert page.presets.value() == ""
    assert ("LoRA rank", "16 → 32") in page.takeover.grid.facts()
    QTest.mouseClick(page.takeover.take, LEFT)
    assert (draft.config.model.source, draft.config.data.path) == ("maker/model", "rows.jsonl")
    assert draft.config.lora.rank == 32 and page.presets.value() == "14b-24gb"
    QTest.keyClick(page.form.line("lora.alpha").field, Qt.Key.Key_Up)
    assert page.presets.value() == ""  # its values are gone
    QTest.mouseClick(page.takeover.undo, LEFT)
    assert (draft.config.lora.rank, draft.config.lora.alpha) == (16, 33)  # what was changed by hand since stays
    assert not page.takeover.isVisibleTo(page)
    page.preset_requested.emit("starter")
    QTest.mouseClick(page.takeover.take, LEFT)
    assert draft.config.model.source == "starter"


def test_runs_on_disk_are_listed_opened_and_made_the_draft(app_window: AppWindow, wait_until: WaitUntil) -> None:
    page = show(app_window, "runs")
    wait_until(lambda: page.model.rowCount() == 2)  # type: ignore[attr-defined]
    assert "broke off at step 120" in texts(page)
    page.actions_of_runs.draft.trigger()  # type: ignore[attr-defined]
    training = app_window.window.current_page()
    assert isinstance(training, TrainingPage) and "“support-bot” would change" in texts(training)
    assert studio_of(app_window).draft.config.name == "my-run"
    QTest.mouseClick(training.takeover.take, LEFT)
    assert studio_of(app_window).draft.config.name == "support-bot"
    page = show(app_window, "runs")
    QTest.mouseClick(page.open_button, LEFT)  # type: ignore[attr-defined]
    assert app_window.window.current_page().name == "run"
    shown = studio_of(app_window).runs.shown
    assert shown is not None
    wait_until(lambda: shown.store.state.step == 120)


def test_the_run_that_is_opened_is_the_one_selected_and_under_the_eyes_nothing_moves(
    app_window: AppWindow, runs: Path, wait_until: WaitUntil
) -> None:
    page = show(app_window, "runs")
    assert isinstance(page, RunsPage)
    wait_until(lambda: len(page.model.rows()) == 2)
    control, newest = studio_of(app_window).runs, RunFolder(runs / "3-newest")
    show(app_window, "training")
    write_sample_run(newest.path, steps=10)
    assert control.open(newest)
    show(app_window, "runs")
    wait_until(lambda: len(page.model.rows()) == 3)
    assert page.selected() is page.model.row(0), "the one that was opened"
    control.open(RunFolder(runs / "1-trained"))  # as the queue does
    assert page.selected() is page.model.row(0)


@pytest.mark.parametrize("name", ["export", "chat"])
def test_a_trained_run_goes_from_the_list_to_the_page_that_uses_it(
    app_window: AppWindow, wait_until: WaitUntil, name: str, runs: Path
) -> None:
    page = show(app_window, "runs")
    wait_until(lambda: page.model.rowCount() == 2)  # type: ignore[attr-defined]
    page.table.selectRow(1)  # type: ignore[attr-defined]
    button = getattr(page, f"{name}_button")
    wait_until(lambda: button.isEnabled() and is_in_sight(button))
    QTest.mouseClick(button, LEFT)
    goal = app_window.window.current_page()
    assert goal.name == name
    assert goal.run.value() == str(runs / "1-trained")  # type: ignore[attr-defined]


def test_a_run_from_elsewhere_is_looked_at_refused_in_words_and_goes_on_once_it_is_trusted(
    app_window: AppWindow, wait_until: WaitUntil, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = RunFolder(runs / "2-broken").config_path.read_text("utf-8").replace("support-bot", "from elsewhere")
    RunFolder(runs / "2-broken").config_path.write_text(text, "utf-8")
    studio, page = studio_of(app_window), show(app_window, "runs")
    assert isinstance(page, RunsPage)
    page.refresh_requested.emit()
    wait_until(lambda: page.distrust.isVisible())
    assert page.distrust.message.text().startswith("The run.toml of 2-broken has changed")
    assert not any(button.isEnabled() for button in (page.resume_button, page.actions_of_runs.queue, page.recover))
    refused: list[str] = []
    studio.failed.connect(lambda error: refused.append(error.kind))
    page.queue_requested.emit(str(runs / "2-broken"))
    page.resume_requested.emit(str(runs / "2-broken"))
    assert not studio.chat.start(runs / "2-broken" / "jobs", ChatJob(run_dir=str(runs / "2-broken")))
    assert refused == ["not_trusted"] * 3
    assert studio.chat.store.state.failure is not None
    QTest.mouseClick(page.open_button, LEFT)
    shown = app_window.window.current_page()
    assert isinstance(shown, RunPage)
    wait_until(lambda: studio.runs.shown and studio.runs.shown.store.state.failure)
    assert shown.distrust.isVisible() and not is_offered(shown, "Resume")
    monkeypatch.setattr("qlora_studio.ui.run.wiring.ask_trust", lambda *_: False)
    QTest.mouseClick(shown.distrust.trust, LEFT)
    assert shown.distrust.isVisible()
    asked: list[str] = []

    def agree(_window: QWidget, _name: str, lines: tuple[str, ...]) -> bool:
        asked.extend(lines)
        return True

    monkeypatch.setattr("qlora_studio.ui.run.wiring.ask_trust", agree)
    QTest.mouseClick(shown.distrust.trust, LEFT)
    assert not shown.distrust.isVisible() and is_offered(shown, "Resume")
    assert "Loads the base model: starter" in asked
    show(app_window, "runs")
    wait_until(lambda: not any(page.model.row(index).objection for index in range(page.model.rowCount())))


def test_versions_are_read_beside_the_event_loop_before_the_settings_are_shown(
    app_window: AppWindow, wait_until: WaitUntil
) -> None:
    assert app_window.studio is not None
    versions.cache_clear()
    SettingsWiring(app_window.studio, app_window.window, SettingsPage())
    wait_until(lambda: versions.cache_info().currsize)


def test_the_theme_changes_at_once_and_is_kept(app_window: AppWindow) -> None:
    page = show(app_window, "settings")
    page.settings_requested.emit({"theme": "dark"})  # type: ignore[attr-defined]
    assert active_theme() is DARK
    assert load_settings().theme == "dark"


def test_the_launch_stands_before_a_run_that_broke_off_and_discarding_it_ends_the_question(
    app_window: AppWindow, wait_until: WaitUntil, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(lambda: is_offered(app_window.window.current_page(), "Resume"))
    assert app_window.window.current_page().name == "run"
    assert "The worker is gone" in texts(app_window.window.current_page())
    page = show(app_window, "runs")
    wait_until(lambda: page.recovery.isVisible())  # type: ignore[attr-defined]
    assert page.recovery.isVisible()  # type: ignore[attr-defined]
    monkeypatch.setattr("qlora_studio.ui.runs.wiring.ask_discard", lambda *_: Discarding.KEEP)
    QTest.mouseClick(page.discard, LEFT)  # type: ignore[attr-defined]
    wait_until(lambda: not page.recovery.isVisible())  # type: ignore[attr-defined]
    failure = RunFolder(runs / "2-broken").state().failure
    assert failure is not None
    assert failure.message.startswith("The run broke off at step 120")


def test_what_is_asked_of_a_run_at_work_is_said_from_the_click_on(
    app_window: AppWindow, runs: Path, wait_until: WaitUntil
) -> None:
    folder = write_sample_run(runs / "3-live", steps=40)
    with folder.lock():
        studio_of(app_window).runs.open(folder)
        page = show(app_window, "run")
        wait_until(lambda: is_offered(page, "Pause"))
        app_window.window.activateWindow()
        wait_until(app_window.window.isActiveWindow)
        button(page, "Pause").setFocus()
        QTest.keyClick(button(page, "Pause"), Qt.Key.Key_Space)
        assert app_window.window.focusWidget() is button(page, "More"), "a second Space must stop nothing"
        assert "Pausing after this step …" in texts(page)
        assert not button(page, "Pausing …").isEnabled()
        assert studio_of(app_window).status().what == "Pausing after this step …"
        QTest.mouseClick(button(page, "Stop and save"), LEFT)
        assert "Stopping after this step …" in texts(page)
        assert not button(page, "Stopping …").isEnabled()
        asked = [type(command) for command in MessageLogReader(folder.commands_path, parse_command).all()]
        assert asked == [Pause, Stop]
        with MessageLogWriter(folder.events_path) as log:
            log.append(Paused(step=40, checkpoint="checkpoint-40"))
        wait_until(lambda: is_offered(page, "Resume"))
        assert "after this step" not in texts(page)


@pytest.mark.parametrize("asked", ["ask_stop_unsaved", "ask_end_worker"])
def test_what_is_agreed_of_one_run_is_not_done_to_another_that_the_queue_brings_meanwhile(
    app_window: AppWindow, runs: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    control, page = studio_of(app_window).runs, show(app_window, "run")
    assert isinstance(page, RunPage)
    first, second = (write_sample_run(runs / name, steps=40) for name in ("3-live", "4-next"))
    with first.lock(), second.lock():
        control.open(first)
        wait_until(lambda: control.shown and control.shown.is_at_work() and control.shown.store.state.step)
        ended: list[bool] = []
        monkeypatch.setattr(control, "end_now", lambda: ended.append(True))  # a process of that number may live
        monkeypatch.setattr(f"qlora_studio.ui.run.wiring.{asked}", lambda *_: control.open(second))  # and agrees
        (page.kill_requested.emit if asked == "ask_end_worker" else lambda: page.stop_requested.emit(False))()
        assert control.shown is not None and control.shown.folder.path == second.path
        assert list(MessageLogReader(second.commands_path, parse_command).all()) == [] and not ended


def test_a_run_that_broke_off_can_be_put_into_the_trash(
    app_window: AppWindow, wait_until: WaitUntil, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qlora_studio.ui.runs.wiring.ask_discard", lambda *_: Discarding.TRASH)
    page = show(app_window, "runs")
    wait_until(lambda: page.recovery.isVisible())  # type: ignore[attr-defined]
    QTest.mouseClick(page.discard, LEFT)  # type: ignore[attr-defined]
    wait_until(lambda: page.model.rowCount() == 1)  # type: ignore[attr-defined]
    assert not (runs / "2-broken").exists()
    (kept,) = (tmp_path / "data").rglob("run.toml")
    assert "support-bot" in kept.read_text("utf-8")


def test_a_run_that_has_no_room_on_its_drive_is_not_started(
    app_window: AppWindow, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = DriveSpace("/home", 1 << 20, (Writing(Path("/home"), "checkpoints", 1 << 30),))
    monkeypatch.setattr("qlora_studio.ui.training.wiring.drives", lambda _writings: (full,))
    studio_of(app_window).draft.replace(load_preset("starter"))
    page = show(app_window, "training")
    wait_until(lambda: "only 1.0 MiB free" in page.disk.text())  # type: ignore[attr-defined]
    QTest.mouseClick(page.start_button, LEFT)  # type: ignore[attr-defined]
    assert "The drive /home has no room for this run. Free 1,023 MiB there" in texts(page)
    assert studio_of(app_window).runs.shown is None


def test_a_run_that_broke_off_stays_where_it_is_where_something_in_it_is_not_ours(
    app_window: AppWindow, wait_until: WaitUntil, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runs / "2-broken" / "thesis.docx").write_text("mine", "utf-8")
    monkeypatch.setattr("qlora_studio.ui.runs.wiring.ask_discard", lambda *_: Discarding.TRASH)
    page = show(app_window, "runs")
    wait_until(lambda: page.recovery.isVisible())  # type: ignore[attr-defined]
    QTest.mouseClick(page.discard, LEFT)  # type: ignore[attr-defined]
    wait_until(lambda: "holds thesis.docx, which is not ours" in texts(page))
    assert (runs / "2-broken" / "run.toml").is_file()


@pytest.mark.slow
def test_what_is_said_of_rows_is_true_of_the_draft_as_it_is_or_a_dash(
    app_window: AppWindow, tiny_llama: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"Number {n}?"}, {"role": "assistant", "content": "Yes, it is."}]}
        for n in range(12)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    draft, rail = studio_of(app_window).draft, app_window.window.rail
    draft.set_value("data.path", str(path))
    page = show(app_window, "data")
    assert isinstance(page, DataPage)
    wait_until(lambda: "12 rows" in texts(page))
    assert page.choose_model.isVisible() and not page.xray.isVisible()  # no model: nothing that one decides
    assert "template ✓" not in texts(page) and "chat template" not in texts(page)
    draft.set_value("model.source", str(tiny_llama))
    wait_until(lambda: page.continue_button.isEnabled() and page.xray.tokens.isVisible())
    wait_until(lambda: rail.button("data").accessibleDescription() == "step 2, done")
    training = show(app_window, "training")
    assert isinstance(training, TrainingPage)
    before = training._tiles[4].accessibleName()
    assert "–" not in before
    lengths = page._lengths
    assert lengths is not None
    draft.set_value("training.max_length", lengths.longest - 4)
    assert training._tiles[4].accessibleName() == "Tokens to learn from: – being counted …"
    assert "Every answer ends" not in texts(page) and page.xray.tokens.tokens() == ()
    wait_until(lambda: "–" not in training._tiles[4].accessibleName())
    assert training._tiles[4].accessibleName() != before
    wait_until(lambda: "Answers are cut off." in rail.button("data").toolTip())
    assert "Some answers end without a trained end-of-turn token" in texts(page)
    assert " tokens kept, " in texts(page)


@pytest.mark.slow
def test_a_row_that_is_left_out_stays_in_sight_and_is_put_back_with_the_counts(
    app_window: AppWindow, tiny_llama: Path, tmp_path: Path, wait_until: WaitUntil
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"Number {n}?"}, {"role": "assistant", "content": "Yes."}]}
        for n in range(12)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    studio = studio_of(app_window)
    studio.draft.set_values({"model.source": str(tiny_llama), "data.path": str(path)})
    page = show(app_window, "data")
    assert isinstance(page, DataPage)
    wait_until(lambda: studio.data.store.state.activity == Activity.READY and page.xray.leave.isVisible())
    page.xray.number.setValue(5)
    wait_until(lambda: "line 5" in texts(page))
    page.xray.leave.click()
    wait_until(lambda: "1 left out by hand" in page._subtitle.whole_text())
    assert "left out by hand · rows.jsonl, line 5" in texts(page)
    page.xray.leave.click()
    wait_until(lambda: "left out" not in page._subtitle.whole_text())
    assert "rows.jsonl, line 5" in texts(page) and page.rows.pills["left out"].isHidden()
