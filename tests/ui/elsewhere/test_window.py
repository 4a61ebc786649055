"""A run sent elsewhere from the window, and followed there: by clicks alone, with a scheduler that begins when told."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit, QPushButton

from qlora_studio.core.run.activity import Phase
from qlora_studio.storage.places import load_places
from qlora_studio.storage.runs.run_folder import run_folders
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.elsewhere.dialog import ElsewhereDialog
from qlora_studio.ui.kit.fields import SpinBox
from qlora_studio.ui.run.page import RunPage
from qlora_studio.ui.training.page import TrainingPage
from tests.elsewhere.places import place_for, program_for, put_program

WaitUntil = Callable[[Callable[[], object]], None]
LEFT = Qt.MouseButton.LeftButton
NewWindow = Callable[[], AppWindow]


@pytest.fixture
def new_window(qapp: QApplication, wait_until: WaitUntil) -> Iterator[NewWindow]:
    opened: list[AppWindow] = []

    def open_one() -> AppWindow:
        app_window, done = AppWindow(), list[bool]()
        opened.append(app_window)
        app_window.completed.connect(lambda: done.append(True))
        app_window.show()
        wait_until(lambda: done)
        return app_window

    yield open_one
    for app_window in opened:
        app_window.end()
        app_window.window.close_now()
        app_window.deleteLater()


@pytest.fixture
def dialog(new_window: NewWindow, scheduler: Path, tmp_path: Path) -> ElsewhereDialog:
    """The dialog of a draft, asked for in the menu of the Training page, with a place typed in."""
    rows = [{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}] * 12
    data = tmp_path / "tickets of may.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    window = new_window()
    assert window.studio is not None
    window.studio.draft.set_values({"model.source": "Qwen/Qwen3-8B", "data.path": str(data), "name": "away"})
    window.window.show_page("training")
    page = window.window.current_page()
    assert isinstance(page, TrainingPage)
    page.more_button.menu().actions()[0].trigger()
    (dialog,) = window.window.findChildren(ElsewhereDialog)
    type_into(dialog, "name", "cluster")
    type_into(dialog, "folder", str(tmp_path / "there"))
    type_into(dialog, "program", program_for("start,steps:6,wait"))
    return dialog


def type_into(dialog: ElsewhereDialog, name: str, text: str) -> None:
    field = dialog.form.fields[name]
    assert isinstance(field, QLineEdit)
    field.selectAll()
    QTest.keyClicks(field, text)


def button(page: RunPage, words: str) -> QPushButton:
    (found,) = [item for item in page.findChildren(QPushButton) if item.text() == words and item.isVisible()]
    return found


def end_mirror() -> None:
    """End the mirror as an impatient user does, or a computer without memory."""
    children = psutil.Process().children(recursive=True)
    living = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    (mirror,) = [child for child in living if "mirror" in child.cmdline()]
    mirror.kill()
    psutil.wait_procs([mirror], timeout=10)


def test_a_run_is_sent_waits_trains_while_the_window_is_closed_and_is_resumed_there(
    dialog: ElsewhereDialog,
    scheduler: Path,
    new_window: NewWindow,
    wait_until: WaitUntil,
    studio_home: Path,
    tmp_path: Path,
) -> None:
    (scheduler / "hold").touch()
    wait_until(dialog.submit.isEnabled)
    assert dialog.leaving.facts()[0][0] == "tickets of may.jsonl"
    QTest.mouseClick(dialog.test, LEFT)
    wait_until(dialog.checks.isVisible)
    assert dialog.state.text() == "Ready for runs."
    assert [place.name for place in load_places()] == ["cluster"]
    QTest.mouseClick(dialog.submit, LEFT)
    wait_until(lambda: QApplication.activeModalWidget() is None)
    assert len(run_folders(studio_home / "runs")) == 1

    app_window = new_window()  # the next start finds it, and follows on
    studio, page = app_window.studio, app_window.window.pages["run"]
    assert studio is not None and isinstance(page, RunPage)
    wait_until(lambda: studio.runs.shown)
    session = studio.runs.shown
    assert session is not None
    app_window.window.show_page("run")

    def says(words: str) -> Callable[[], bool]:
        return lambda: words in page._subtitle.whole_text()

    wait_until(says("On cluster: waiting in the queue (it is held by you)"))
    assert studio.names_at_work() == (), "closing ends nothing, and asks nothing"
    (scheduler / "hold").unlink()
    wait_until(lambda: session.store.state.step == 6)
    wait_until(says("running on n1"))
    (scheduler / "down").touch()
    wait_until(says("not reached since"))
    assert session.is_at_work()
    (scheduler / "down").unlink()
    wait_until(says("running on n1"))

    end_mirror()
    studio.change_settings(tell_endings=False)  # whenever settings change, and else now and then

    QTest.mouseClick(button(page, "Pause"), LEFT)
    wait_until(lambda: session.elsewhere and not session.elsewhere.open)
    wait_until(lambda: session.store.state.phase is Phase.PAUSED)
    place_for("start,steps:3,adapter,finish", tmp_path)
    QTest.mouseClick(button(page, "Resume"), LEFT)
    wait_until(lambda: session.store.state.phase is Phase.FINISHED)
    assert session.store.state.step == 9
    assert (session.folder.adapter_path / "adapter_model.safetensors").exists()
    assert button(page, "Continue to Export")
    wait_until(lambda: not session.folder.is_busy())


def test_what_keeps_a_run_from_going_is_said_in_the_dialog(
    dialog: ElsewhereDialog, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(dialog.submit.isEnabled)
    type_into(dialog, "time", "for ever")
    assert not dialog.submit.isEnabled()
    wait_until(lambda: dialog.form.fields["time"].property("invalid") == "true")
    type_into(dialog, "time", "12:00:00")
    wait_until(dialog.submit.isEnabled)
    monkeypatch.setenv("QLORA_STUDIO_OFFLINE", "1")
    type_into(dialog, "host", "login.cluster.example")
    wait_until(dialog.notice.isVisible)
    assert "switched off" in dialog.notice.message.text()
    assert not dialog.submit.isEnabled()


def test_several_nodes_are_sent_to_only_once_their_network_is_called_trusted(
    dialog: ElsewhereDialog, scheduler: Path, wait_until: WaitUntil
) -> None:
    wait_until(dialog.submit.isEnabled)
    assert not dialog.trust.isVisible()
    dialog.form.advanced.click()
    nodes = dialog.form.fields["nodes"]
    assert isinstance(nodes, SpinBox)
    nodes.setValue(2)
    wait_until(lambda: not dialog.submit.isEnabled())
    type_into(dialog, "interface", "ib0")
    wait_until(dialog.trust.isVisible)
    assert "Whoever reaches ib0 there reaches these ports" in dialog.notes.text()
    assert not dialog.submit.isEnabled()
    dialog.trust.click()
    wait_until(dialog.submit.isEnabled)
    assert "--trust-network" in dialog.script.toPlainText()
    type_into(dialog, "interface", "ib1")
    wait_until(lambda: "ib1" in dialog.notes.text())
    assert not dialog.trust.isChecked()
    assert not dialog.submit.isEnabled()


def test_a_sending_that_hangs_is_stopped_by_cancel_and_leaves_nothing(
    dialog: ElsewhereDialog, scheduler: Path, wait_until: WaitUntil, studio_home: Path, tmp_path: Path
) -> None:
    put_program(tmp_path, "cat", "exec sleep 60")
    wait_until(dialog.submit.isEnabled)
    QTest.mouseClick(dialog.submit, LEFT)
    wait_until(lambda: [*tmp_path.glob("there/*/elsewhere/sent/1/*.part")])
    QTest.mouseClick(dialog.cancel, LEFT)
    wait_until(dialog.notice.isVisible)

    assert dialog.notice.message.text() == "Nothing was submitted: it was stopped."
    assert run_folders(studio_home / "runs") == []
    assert [*(tmp_path / "there").iterdir()] == []
    assert dialog.submit.isEnabled()
