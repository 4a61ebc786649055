"""What the monkey holds the window to is true of a window in which nothing is wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication, QFileDialog, QLabel

from qlora_studio.storage.settings import Settings, save_settings
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.kit.desktop.save_dialog import ask_save_path
from qlora_studio.ui.showcase.sample_run import write_sample_run
from tests.ui.monkey.invariants import promises, wrong_words

WaitUntil = Callable[[Callable[[], object]], None]


@pytest.fixture
def app_window(qapp: QApplication, studio_home: Path, wait_until: WaitUntil) -> Iterator[AppWindow]:
    save_settings(Settings())
    app_window, done = AppWindow(), list[bool]()
    app_window.completed.connect(lambda: done.append(True))
    app_window.show()
    wait_until(lambda: done)
    yield app_window
    app_window.destroy()


def broken(app_window: AppWindow) -> list[str]:
    return [words for words, holds in promises(app_window) if not holds()]


def test_a_run_that_came_behind_another_page_breaks_no_promise_and_is_named_once_its_page_is_seen(
    app_window: AppWindow, studio_home: Path, wait_until: WaitUntil
) -> None:
    studio = app_window.studio
    assert studio is not None
    folder = write_sample_run(studio_home / "runs" / "1-broken-off", steps=5)
    app_window.window.show_page("model")
    studio.runs.open(folder)
    wait_until(lambda: studio.runs.shown and studio.runs.shown.store.state.step == 5)
    wait_until(lambda: not broken(app_window))
    app_window.window.show_page("run")
    wait_until(lambda: not broken(app_window))
    (folder.path / "label.json").write_text('{"name": "the one with long answers"}')
    assert any("names the run" in words for words in broken(app_window))
    wait_until(lambda: not broken(app_window))


def test_the_words_of_qts_own_dialog_are_not_held_against_the_window(
    app_window: AppWindow, wait_until: WaitUntil
) -> None:
    ask_save_path(app_window.window, "Save the picture", "curve.png", "PNG picture (*.png)", lambda _path: None)
    wait_until(lambda: any(dialog.isVisible() for dialog in app_window.window.findChildren(QFileDialog)))
    assert wrong_words(app_window) == []
    QLabel("<b>bold</b>", app_window.window).show()
    assert len(wrong_words(app_window)) == 1
