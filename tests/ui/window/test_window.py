"""The window: it builds, every page can be reached, by keyboard too, and it stays light."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QScrollArea, QWidget

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.events import Failed, Finished
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.settings import Settings, save_settings
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.theme import DARK, LIGHT, active_theme
from qlora_studio.ui.run.page import RunPage
from qlora_studio.ui.showcase.sample_run import write_sample_run
from qlora_studio.ui.window.rail import RailButton

WaitUntil = Callable[[Callable[[], object]], None]
NAMES = ["start", "model", "data", "training", "run", "export", "chat", "runs", "settings"]


@pytest.fixture
def app_window(qapp: QApplication, wait_until: WaitUntil) -> Iterator[AppWindow]:
    app_window = AppWindow()
    done: list[bool] = []
    app_window.completed.connect(lambda: done.append(True))
    app_window.show()
    wait_until(lambda: done)
    yield app_window
    app_window.destroy()


def run_page(app_window: AppWindow) -> RunPage:
    page = app_window.window.pages["run"]
    assert isinstance(page, RunPage)
    return page


def test_every_page_comes_to_the_front_when_its_entry_is_clicked(app_window: AppWindow) -> None:
    window = app_window.window
    assert list(window.rail.names()) == NAMES
    for button in window.rail.findChildren(RailButton):
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        assert window.current_page().name == button.name
        assert button.isChecked()


def test_every_page_comes_to_the_front_by_its_keys(app_window: AppWindow, wait_until: WaitUntil) -> None:
    window = app_window.window
    window.activateWindow()
    wait_until(window.isActiveWindow)
    for number, name in enumerate(NAMES):
        QTest.keyClick(window, Qt.Key(Qt.Key.Key_0 + number), Qt.KeyboardModifier.ControlModifier)
        assert window.current_page().name == name


def test_every_control_can_be_reached_by_keyboard_and_has_a_name(app_window: AppWindow) -> None:
    for page in app_window.window.pages.values():
        for control in page.findChildren(QAbstractButton):
            if type(control).__module__.startswith("qlora_studio"):
                assert control.focusPolicy() & Qt.FocusPolicy.TabFocus, control.text()
                assert control.accessibleName() or control.text(), f"a button of {page.name}"


def test_every_main_button_of_a_page_has_a_letter_that_no_other_one_has(app_window: AppWindow) -> None:
    window = app_window.window
    for page in window.pages.values():
        window.show_page(page.name)
        buttons = [button for button in window.findChildren(QAbstractButton) if button.isVisible()]
        letters = [keys for button in buttons if (keys := button.shortcut().toString())]
        assert len(set(letters)) == len(letters), (page.name, sorted(letters))
        for button in buttons:
            if button.property("kind") in ("primary", "plain", "pill") and page.isAncestorOf(button):
                assert button.shortcut().toString(), f"{button.text()} of {page.name}"


def test_a_run_of_the_folder_is_replayed_with_its_curves(
    app_window: AppWindow, tmp_path: Path, wait_until: WaitUntil
) -> None:
    folder = write_sample_run(tmp_path / "run", steps=412, ending=Finished())
    assert app_window.studio is not None
    assert app_window.studio.runs.open(folder)
    app_window.window.show_page("run")
    page = run_page(app_window)
    wait_until(lambda: page.plots.is_plot_ready() and len(page.plots.smoothed_loss()) == 412)
    wait_until(lambda: app_window.window.status_line.status().what == "Finished")
    assert app_window.window.status_line.status().subject == "support-bot"


def test_a_failure_is_shown_with_its_advice_and_its_details_folded(
    app_window: AppWindow, tmp_path: Path, wait_until: WaitUntil
) -> None:
    failed = Failed(
        kind=FailureKind.OUT_OF_MEMORY, message="The card is full.", advice="Lower max length.", detail="Traceback …"
    )
    folder = write_sample_run(tmp_path / "run", steps=20, ending=failed)
    assert app_window.studio is not None
    app_window.studio.runs.open(folder)
    app_window.window.show_page("run")
    notice = run_page(app_window).notice
    wait_until(notice.isVisible)
    assert notice.message.text() == "The card is full."
    assert notice.advice.text() == "Lower max length."
    assert not notice.detail.isVisible()
    notice.fold.click()
    assert notice.detail.isVisible()


def test_a_folder_that_is_no_run_is_told_in_words(app_window: AppWindow, tmp_path: Path) -> None:
    assert app_window.studio is not None
    assert not app_window.studio.runs.open(RunFolder(tmp_path))
    notice = app_window.window.current_page().notice
    assert "is not a run" in notice.message.text()


def test_the_theme_follows_the_settings(app_window: AppWindow) -> None:
    assert app_window.studio is not None
    app_window.studio.change_settings(theme="dark")
    assert active_theme() is DARK
    app_window.studio.change_settings(theme="light")
    assert active_theme() is LIGHT


def test_a_panel_that_was_folded_as_the_theme_changed_comes_up_in_its_colours(app_window: AppWindow) -> None:
    panel, label = app_window.panel, app_window.panel.findChildren(Label)[0]
    assert app_window.studio is not None
    app_window.window.show_panel(False)
    app_window.studio.change_settings(theme="dark")
    app_window.window.show_panel(True)
    assert panel.isVisible()
    assert label.palette().color(label.foregroundRole()).name() == DARK.color("text").name()


def test_the_window_takes_the_theme_of_the_settings_file(qapp: QApplication, wait_until: WaitUntil) -> None:
    save_settings(Settings(theme="dark"))
    app_window = AppWindow()
    assert active_theme() is DARK
    app_window.destroy()


@pytest.mark.parametrize("size", [(1440, 900), (1024, 640)])
def test_no_page_is_wider_than_the_window(app_window: AppWindow, size: tuple[int, int], qapp: QApplication) -> None:
    window = app_window.window
    window.resize(*size)
    for name in NAMES:
        window.show_page(name)
        qapp.processEvents()
        assert window.width() == size[0], name
        bar = window.current_page()._scroll.horizontalScrollBar()
        assert bar.maximum() == 0, f"{name} is {bar.maximum()} pixels too wide"
    panel = app_window.panel.findChild(QScrollArea)
    assert isinstance(panel, QScrollArea)
    content = panel.widget()
    assert content is not None
    assert content.minimumSizeHint().width() <= panel.viewport().width()


def test_the_self_test_visits_every_page_without_the_heavy_libraries(studio_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qlora_studio", "--self-test", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "QLORA_STUDIO_HOME": str(studio_home), "QT_QPA_PLATFORM": "offscreen"},
    )
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["errors"] == []
    assert report["heavy_modules"] == []
    assert report["pages"] == NAMES
    assert report["first_paint_seconds"] > 0
    assert done.returncode == 0


def test_the_first_paint_waits_for_no_plots_and_no_arrays(run_python: Callable[..., object]) -> None:
    run_python(
        """
import os, sys
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from qlora_studio.ui.app import AppWindow, new_application
app = new_application()
window = AppWindow()
def look():
    found = [name for name in ("pyqtgraph", "numpy", "pyarrow", "torch", "transformers") if name in sys.modules]
    print(found)
    os._exit(bool(found))
window.painted.connect(look)
window.show()
app.exec()
"""
    )


def test_no_part_of_the_window_shows_as_a_window_of_its_own_while_it_is_built(
    qapp: QApplication, wait_until: WaitUntil
) -> None:
    spy = TopLevelSpy()
    qapp.installEventFilter(spy)
    app_window = AppWindow()
    done: list[bool] = []
    app_window.completed.connect(lambda: done.append(True))
    app_window.show()
    wait_until(lambda: done)
    qapp.removeEventFilter(spy)
    app_window.destroy()
    assert spy.seen == ["MainWindow"]


class TopLevelSpy(QObject):
    """Notes every window that shows."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Show and isinstance(watched, QWidget) and watched.isWindow():
            self.seen.append(type(watched).__name__)
        return False


def test_a_window_at_rest_has_no_widget_without_a_parent(app_window: AppWindow) -> None:
    shown = [widget for widget in QApplication.topLevelWidgets() if widget.isVisible()]
    assert shown == [app_window.window]
    assert isinstance(app_window.window, QWidget)
