"""A window that is opened again: everything is as it was left, within the screens of now."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QRect, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from qlora_studio.core.run.events import Finished
from qlora_studio.storage.session import Place, load_session
from qlora_studio.storage.settings import Settings, save_settings
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.showcase.sample_run import write_sample_run
from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.place import area_within

WaitUntil = Callable[[Callable[[], object]], None]
_SIZE = (1000, 640)
SCREENS = [QRect(0, 0, 1920, 1040), QRect(1920, 0, 1280, 720)]


def opened(wait_until: WaitUntil) -> AppWindow:
    app_window = AppWindow()
    done: list[bool] = []
    app_window.completed.connect(lambda: done.append(True))
    app_window.show()
    wait_until(lambda: done)
    return app_window


@pytest.mark.parametrize(
    ("place", "area"),
    [
        (Place(left=100, top=50, width=1200, height=700), QRect(100, 50, 1200, 700)),
        (Place(left=2000, top=10, width=1100, height=700), QRect(2000, 10, 1100, 700)),
        (Place(left=5000, top=3000, width=1200, height=700), QRect(720, 340, 1200, 700)),  # that screen is gone
        (Place(left=-300, top=-90, width=1200, height=700), QRect(0, 0, 1200, 700)),
        (Place(left=2000, top=100, width=1900, height=1000), QRect(1920, 0, 1280, 720)),
    ],
)
def test_a_window_stands_where_it_stood_and_always_within_a_screen(place: Place, area: QRect) -> None:
    assert area_within(place, SCREENS) == area


def test_a_run_that_a_file_manager_opens_is_shown(qapp: QApplication, wait_until: WaitUntil, studio_home: Path) -> None:
    folder = write_sample_run(studio_home / "runs" / "1-run", steps=20, ending=Finished())
    app_window = AppWindow(opened=str(folder.path / "run.toml"))

    app_window.show()

    wait_until(lambda: app_window.studio is not None and app_window.window.current_page().name == "run")
    assert not qapp.windowIcon().isNull()
    app_window.destroy()


def test_draft_page_place_and_run_are_as_they_were_left(
    qapp: QApplication, tmp_path: Path, wait_until: WaitUntil, studio_home: Path
) -> None:
    folder = write_sample_run(studio_home / "runs" / "1-run", steps=20, ending=Finished())
    data = tmp_path / "rows.csv"
    data.write_text("Frage,Antwort\nAhoi,Aye\n", "utf-8")
    before = opened(wait_until)
    assert before.studio is not None
    before.window.setGeometry(QRect(7, 9, *_SIZE))
    mapping = {"prompt": "Frage", "completion": "Antwort"}
    before.studio.draft.set_values({"data.path": str(data), "data.mapping": mapping, "lora.rank": 48})
    before.studio.runs.open(folder)
    before.window.show_page("run")
    QTest.keyClick(before.window, Qt.Key.Key_F9)
    draft = before.studio.draft.config
    wait_until(lambda: load_session().config() == draft)  # a kill from now on loses nothing of it
    before.destroy()
    after = opened(wait_until)
    assert after.studio is not None
    assert after.studio.draft.config == draft
    assert after.window.current_page().name == "run"
    assert after.window.geometry() == QRect(7, 9, *_SIZE)
    assert after.panel.isHidden(), "F9 has folded it"
    studio = after.studio
    wait_until(lambda: studio.runs.shown is not None)
    assert studio.runs.shown is not None and studio.runs.shown.folder.path == folder.path
    after.destroy()


def test_a_damaged_session_is_told_and_what_older_settings_name_is_taken_up(
    qapp: QApplication, wait_until: WaitUntil, studio_home: Path
) -> None:
    save_settings(Settings(last_model="starter", gpus="1"))
    (studio_home / "session.json").write_bytes(b'{"page": ')
    app_window = opened(wait_until)
    assert "cannot be taken up" in app_window.window.current_page().notice.message.text()
    assert app_window.studio is not None
    assert app_window.studio.draft.config.model.source == "starter"
    assert app_window.studio.draft.config.hardware.gpus == "1"
    app_window.destroy()


@pytest.mark.parametrize("screen", [(1024, 640), (911, 512), (1920, 1080)])
def test_the_first_window_lies_within_the_screen_with_its_title_bar(
    qapp: QApplication, screen: tuple[int, int]
) -> None:
    window = MainWindow(QWidget())
    window.resize_for(QRect(0, 0, *screen))
    assert window.width() <= screen[0] and window.height() + 30 <= screen[1]


def test_a_window_that_is_too_narrow_folds_the_panel_until_it_is_asked_for(qapp: QApplication) -> None:
    panel = QWidget()
    window = MainWindow(panel)
    seen = []
    for width in (1100, 900, 1100):
        window.resize(width, 640)
        window.show()
        seen.append(panel.isVisible())
    window.resize(900, 640)
    window.toggle_panel()
    seen.append(panel.isVisible())
    window.close_now()
    assert seen == [True, False, True, True]
