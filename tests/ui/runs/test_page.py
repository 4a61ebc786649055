"""The Runs page and the Settings page: what lies on disk is listed, in words, and acted upon by signals."""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.events import Failed, Finished, PhaseChanged, WorkerStarted
from qlora_studio.storage.runs.cache_rooms import Kept
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.settings import Settings
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.runs.view import recovery_text, unfinished
from qlora_studio.ui.settings.page import SettingsPage
from qlora_studio.ui.settings.wiring import folders, kept_words, versions
from qlora_studio.ui.showcase.sample_run import write_sample_run
from qlora_studio.ui.state.run_line import KnownRuns, RunLine, when_text

LEFT = Qt.MouseButton.LeftButton
LINES = (
    RunLine("/r/c", "newest", "SmolLM2", "at work", 4, 10, when=3.0, busy=True),
    RunLine("/r/b", "broken", "Qwen3", "broken off", 120, 300, 0.83, 2.0, broken=True, resumable=True, safe_step=100),
    RunLine("/r/a", "done", "SmolLM2", "finished", 10, 10, 1.2, 1.0, has_adapter=True),
)


def test_a_launch_stands_before_what_is_at_work_then_what_broke_off_then_the_newest_that_is_paused() -> None:
    working, broken, done = LINES
    paused = RunLine("/r/d", "paused", state="paused")
    assert unfinished((done, broken, working)) is working
    assert unfinished((paused, done, broken)) is broken
    assert unfinished((paused, done)) is paused
    assert unfinished((done, paused)) is None and unfinished(()) is None


@pytest.fixture
def page(qapp: QApplication) -> RunsPage:
    page = RunsPage()
    page.resize(900, 700)
    page.show()
    return page


def test_without_runs_the_page_says_what_to_do_next(page: RunsPage) -> None:
    asked: list[bool] = []
    page.training_requested.connect(lambda: asked.append(True))
    QTest.mouseClick(page.go_training, LEFT)
    assert asked == [True]
    assert not page.open_button.isEnabled()


def test_a_run_is_told_by_name_model_state_steps_loss_and_time(page: RunsPage) -> None:
    page.render_runs(LINES)
    cells = [page.model.index(1, column).data() for column in range(6)]
    assert cells[:5] == ["broken", "Qwen3", "broken off", "120 of 300", "0.830"]


def test_buttons_ask_for_what_the_selected_run_allows(page: RunsPage) -> None:
    asked: list[tuple[str, str]] = []
    for name in ("open", "resume", "chat", "export", "draft", "folder"):
        getattr(page, f"{name}_requested").connect(lambda path, name=name: asked.append((name, path)))
    page.render_runs(LINES)
    page.table.selectRow(2)
    assert not page.resume_button.isEnabled()
    for button in (page.open_button, page.chat_button, page.export_button):
        QTest.mouseClick(button, LEFT)
    page.actions_of_runs.draft.trigger()
    page.actions_of_runs.folder.trigger()
    page.table.selectRow(1)
    assert not page.export_button.isEnabled()
    QTest.mouseClick(page.resume_button, LEFT)
    assert asked == [*((name, "/r/a") for name in ("open", "chat", "export", "draft", "folder")), ("resume", "/r/b")]


def test_a_run_that_was_opened_is_selected_once_it_is_listed_unless_the_user_selects_another_one(
    page: RunsPage,
) -> None:
    page.render_runs(LINES[1:])
    page.table.choose("/r/c")
    assert page.selected() == LINES[1]
    page.render_runs(LINES)
    assert page.selected() == LINES[0]
    page.render_runs(LINES[1:])
    page.table.choose("/r/c")
    page.table.selectRow(1)
    page.render_runs(LINES)
    assert page.selected() == LINES[2]


def test_a_run_that_broke_off_is_offered_to_be_resumed_looked_at_or_discarded(page: RunsPage) -> None:
    asked: list[str] = []
    page.resume_requested.connect(asked.append)
    others: list[tuple[str, str]] = []
    page.open_requested.connect(lambda path: others.append(("open", path)))
    page.discard_requested.connect(lambda path: others.append(("discard", path)))
    page.render_runs(LINES)
    QTest.mouseClick(page.inspect, LEFT)
    QTest.mouseClick(page.discard, LEFT)
    assert others == [("open", "/r/b"), ("discard", "/r/b")]
    assert page.recovery.message.text() == "broken broke off at step 120. Its checkpoint of step 100 is safe."
    QTest.mouseClick(page.recover, LEFT)
    assert asked == ["/r/b"]
    assert "begin again" in recovery_text(replace(LINES[1], safe_step=None))
    page.render_runs(LINES[:1])
    assert not page.recovery.isVisibleTo(page)


def test_the_selection_stays_when_the_list_is_read_again(page: RunsPage) -> None:
    page.render_runs(LINES)
    page.table.selectRow(1)
    page.render_runs((replace(LINES[0], step=5), *LINES[1:]))
    selected = page.selected()
    assert selected is not None and selected.path == "/r/b"


def test_runs_are_filtered_by_words(page: RunsPage) -> None:
    page.render_runs(LINES)
    QTest.keyClicks(page.search, "smol fin")
    assert page.model.rowCount() == 1


def test_the_list_is_read_again_whenever_the_page_comes_to_the_front(page: RunsPage) -> None:
    asked: list[bool] = []
    page.refresh_requested.connect(lambda: asked.append(True))
    page.on_shown()
    assert asked == [True]


def test_states_of_runs_on_disk_are_read_from_their_events(tmp_path: Path) -> None:
    write_sample_run(tmp_path / "3-broken", steps=120)
    write_sample_run(tmp_path / "2-done", steps=790, ending=Finished())
    write_sample_run(tmp_path / "1-failed", steps=5, ending=Failed(kind=FailureKind.ERROR, message="x"))
    ended_by_user = Failed(kind=FailureKind.INTERRUPTED, message="The job was cancelled.")
    write_sample_run(tmp_path / "0-cancelled", steps=5, ending=ended_by_user)
    (tmp_path / "0-a-garbage").mkdir()
    (tmp_path / "0-a-garbage" / "run.toml").write_text("this is = not toml = at all")
    *lines, cancelled, garbage = KnownRuns().look(tmp_path)
    assert [line.state for line in lines] == ["broken off", "finished", "failed"]
    assert [line.resumable for line in lines] == [True, False, True]
    assert lines[0].broken
    assert lines[1].step == 790 and lines[1].evaluation_loss is not None
    assert (cancelled.state, cancelled.tone, cancelled.resumable) == ("cancelled", "muted", True)
    assert garbage.state == "not readable" and garbage.problem and not garbage.resumable


def test_a_run_that_waited_for_space_and_lost_its_worker_broke_off_and_can_go_on(tmp_path: Path) -> None:
    folder = write_sample_run(tmp_path / "1-run", steps=5)
    with MessageLogWriter(folder.events_path) as log:
        log.append(PhaseChanged(phase=Activity.WAITING_FOR_SPACE))
    with folder.lock():
        (line,) = KnownRuns().look(tmp_path)
        assert (line.busy, line.state) == (True, "waiting for disk space")
    (line,) = KnownRuns().look(tmp_path)
    assert (line.state, line.broken, line.resumable) == ("broken off", True, True)


def test_a_checkpoint_that_is_removed_is_no_longer_called_safe(tmp_path: Path) -> None:
    folder, known = write_sample_run(tmp_path / "1-run", steps=5), KnownRuns()
    for step in (4, 2):
        (folder.checkpoints_path / f"checkpoint-{step}").mkdir(parents=True)
    assert known.look(tmp_path)[0].checkpoints == (4, 2)
    shutil.rmtree(folder.checkpoints_path / "checkpoint-4")
    assert known.look(tmp_path)[0].checkpoints == (2,)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links are another matter there")
def test_a_run_that_cannot_be_read_is_a_row_that_says_why_and_hides_no_other(tmp_path: Path) -> None:
    names = [
        "9-no-toml",
        "8-pipe",
        "7-folder",
        "6-link",
        "5-nested",
        "4-events",
        "3-loop",
        "2-no-text",
        "1-whole",
    ]
    *broken, _ = (write_sample_run(tmp_path / name, steps=5, ending=Finished()) for name in names)
    for folder in broken:
        (folder.events_path if "events" in folder.path.name else folder.config_path).unlink()
    os.mkfifo(broken[1].config_path)
    broken[2].config_path.mkdir()
    broken[3].config_path.symlink_to("/dev/zero")
    broken[4].config_path.write_text("a = " + "[" * 9999)
    broken[5].events_path.mkdir()
    broken[6].config_path.symlink_to("run.toml")
    broken[7].config_path.write_bytes(b"\xff")
    *rows, whole = KnownRuns().look(tmp_path)
    assert [Path(line.path).name for line in rows] == names[:-1] and whole.state == "finished"
    for line in rows:
        assert line.state == "not readable" and not line.resumable
        assert "cannot be read" in line.problem or "it has no run.toml" in line.problem


def test_the_page_says_below_the_list_why_the_selected_run_cannot_be_read(page: RunsPage) -> None:
    page.render_runs((RunLine("/r/b", "b", state="not readable", problem="It is a pipe."), RunLine("/r/a", "a")))
    assert page.remark.text() == "It is a pipe."
    page.table.selectRow(1)
    assert page.remark.isHidden()


def test_a_run_with_damaged_lines_is_listed_as_the_rest_says_with_a_word_on_them(tmp_path: Path) -> None:
    folder = write_sample_run(tmp_path / "1-run", steps=5)
    with folder.events_path.open("ab") as events:
        events.write(b'{"type": "step_done", "time": 1e20}\n')
    with MessageLogWriter(folder.events_path) as log:
        log.append(Finished())
    (line,) = KnownRuns().look(tmp_path)
    assert line.state == "finished" and line.step == 5
    assert line.remark.startswith("1 line of events.jsonl could not be read, line ")


def test_a_run_whose_events_were_put_back_from_a_copy_is_read_anew(tmp_path: Path) -> None:
    folder = write_sample_run(tmp_path / "1-run", steps=9)
    older = folder.events_path.read_bytes().splitlines(keepends=True)[:-4]
    known = KnownRuns()
    assert known.look(tmp_path)[0].step == 9
    folder.events_path.write_bytes(b"".join(older))
    assert known.look(tmp_path)[0].step == 5


def test_a_run_whose_settings_were_mended_is_read_again(tmp_path: Path) -> None:
    folder = write_sample_run(tmp_path / "1-run", steps=5)
    whole = folder.config_path.read_bytes()
    folder.config_path.write_bytes(b"\xff")
    known = KnownRuns()
    assert known.look(tmp_path)[0].problem
    folder.config_path.write_bytes(whole)
    assert not known.look(tmp_path)[0].problem


def test_a_run_of_a_newer_version_is_listed_with_the_reason_for_as_long_as_it_is_one(tmp_path: Path) -> None:
    folder = write_sample_run(tmp_path / "1-newer", steps=5)
    known = KnownRuns()
    for _ in range(2):  # what was refused once is not read on from there
        with folder.events_path.open("a", encoding="utf-8") as events:
            events.write('{"version": 99, "time": 1.0, "type": "worker_started"}\n')
        (line,) = known.look(tmp_path)
        assert line.state == "not readable" and not line.resumable
        assert line.problem.startswith("This run was made by a newer QLoRA Studio. Update")
        with folder.events_path.open("a", encoding="utf-8") as events:
            events.write(Finished().to_line())


def test_a_run_whose_worker_lives_is_at_work(tmp_path: Path) -> None:
    folder = write_sample_run(tmp_path / "1-live", steps=5)
    with folder.lock().acquire(blocking=False):
        (line,) = KnownRuns().look(tmp_path)
    assert line.busy and line.state == "at work" and not line.broken and not line.resumable


def test_a_run_is_read_on_when_its_events_changed(tmp_path: Path) -> None:
    folder = RunFolder(write_sample_run(tmp_path / "1-run", steps=5).path)
    known = KnownRuns()
    first = known.look(tmp_path)[0]
    assert known.look(tmp_path) == [first]
    with MessageLogWriter(folder.events_path) as log:
        log.append(WorkerStarted(job="train", studio="0", pid=1))
        log.append(Finished())
    assert known.look(tmp_path)[0].state == "finished"


def test_a_run_that_two_threads_look_at_is_not_read_by_halves(tmp_path: Path) -> None:
    write_sample_run(tmp_path / "1-done", steps=790, ending=Finished())
    for _ in range(5):
        known = KnownRuns()
        with ThreadPoolExecutor(4) as threads:
            looks = [threads.submit(known.look, tmp_path) for _ in range(4)]
        assert {line.state for look in looks for line in look.result()} == {"finished"}


def test_a_moment_of_today_is_told_by_the_clock() -> None:
    assert when_text(1_790_000_000.0, now=1_790_000_100.0).startswith("today ")
    assert when_text(1_780_000_000.0, now=1_790_000_100.0).startswith("2026-")
    assert when_text(0.0) == "–"


def test_settings_are_asked_for_by_name(qapp: QApplication, tmp_path: Path) -> None:
    page = SettingsPage()
    asked: list[dict[str, str]] = []
    page.settings_requested.connect(asked.append)
    page.render_cards(["RTX 4090 24 GB"])
    page.render_settings(Settings(theme="dark", runs_dir=str(tmp_path)))
    assert asked == []
    assert page.theme.value() == "dark"
    assert page.runs_dir.text() == str(tmp_path)
    for combo, value in ((page.theme, "light"), (page.assumed, "RTX 4090 24 GB")):
        combo.setCurrentIndex(combo.findData(value))
        combo.activated.emit(combo.currentIndex())
    page.keep_bases.click()
    assert asked == [{"theme": "light"}, {"assumed_gpu": "RTX 4090 24 GB"}, {"keep_bases": False}]


def test_bases_that_are_kept_are_told_with_their_size_and_can_be_removed(qapp: QApplication, tmp_path: Path) -> None:
    page = SettingsPage()
    asked: list[bool] = []
    page.removal_requested.connect(lambda: asked.append(True))
    page.render_kept(kept_words([]), removable=False)
    page.remove_bases.click()
    assert page.kept.text().endswith("None is in the cache.") and not asked
    page.render_kept(kept_words([Kept(tmp_path, "Qwen/Qwen3-8B", 5 << 30)]), removable=True)
    page.remove_bases.click()
    assert page.kept.text().endswith("In the cache: Qwen/Qwen3-8B 5.0 GiB.") and asked == [True]


def test_settings_say_what_the_program_is_made_of_and_keeps_where(qapp: QApplication) -> None:
    page = SettingsPage()
    page.render_about(versions(), folders(Settings()))
    words = dict(page.versions.facts())
    assert words["QLoRA Studio"]
    assert words["torch"][0].isdigit()
    assert set(dict(page.folders.facts())) == {"Runs", "Data", "Cache"}


def test_the_summary_of_the_queue_stays_until_it_is_closed(page: RunsPage) -> None:
    page.render_summary("The queue is done: 2 finished, 1 failed.")
    assert page.summary.message.text() == "The queue is done: 2 finished, 1 failed."
    assert page.summary.isVisible()
    QTest.mouseClick(page._summary_seen, LEFT)
    assert not page.summary.isVisible()
