"""`python -m tests.words.spoken_window HOME MODEL DATA` opens the real window and prints, as JSON, the words it shows.

The language is that of `QLORA_STUDIO_LANGUAGE`, chosen as the program does, before anything of the window is imported.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qlora_studio.storage.languages import speak_chosen

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication, QDialog

    from qlora_studio.ui.app import AppWindow

_PATIENCE = 100.0


def main(home: Path, model: str, data: str) -> None:
    """Open the window, look at everything in it, and print what it says."""
    speak_chosen()
    from qlora_studio.ui.app import AppWindow, new_application
    from tests.words.walk import note_painted, words_of

    app = new_application()
    _write_runs(home / "runs")
    seen: set[tuple[str, str]] = set()
    note_painted(seen)
    app_window = AppWindow()
    done: list[bool] = []
    app_window.completed.connect(lambda: done.append(True))
    app_window.show()
    _wait(app, lambda: bool(done))
    _choose(app, app_window, model, data, home / "runs")
    for name in app_window.window.pages:
        app_window.window.show_page(name)
        _settle(app)
        app_window.window.grab()
    for action in ("F1", "Ctrl+K"):
        next(item for item in app_window.window.actions() if item.shortcut().toString() == action).trigger()
    seen.update(words_of(app_window.window))
    for dialog in _dialogs(app_window):
        dialog.show()
        app.processEvents()
        seen.update(words_of(dialog))
        dialog.close()
    _ask_all(app_window, lambda box: seen.update(words_of(box)))
    print(json.dumps(sorted(seen)))
    app_window.destroy()


def _write_runs(runs: Path) -> None:
    from qlora_studio.core.run.events import AdapterSaved, Finished
    from qlora_studio.storage.runs.message_log import MessageLogWriter
    from qlora_studio.ui.showcase.sample_run import write_sample_run

    trained = write_sample_run(runs / "1-trained", steps=790)
    with MessageLogWriter(trained.events_path) as log:
        log.append(AdapterSaved(path="adapter", step=790))
        log.append(Finished())
    write_sample_run(runs / "2-broken", steps=120)


def _choose(app: "QApplication", app_window: "AppWindow", model: str, data: str, runs: Path) -> None:
    """Choose a model and a dataset, let the rows be read, and open a run."""
    from qlora_studio.core.run.activity import Activity
    from qlora_studio.storage.runs.run_folder import RunFolder

    studio = app_window.studio
    assert studio is not None
    studio.draft.set_values({"model.source": model, "data.path": data})
    app_window.window.show_page("data")
    store = studio.data.store
    _wait(app, lambda: store.state.failure is not None or store.state.activity == Activity.READY)
    assert store.state.failure is None, store.state.failure
    studio.runs.open(RunFolder(runs / "1-trained"))
    _wait(app, lambda: studio.runs.shown is not None and studio.runs.shown.store.state.step > 0)


def _dialogs(app_window: "AppWindow") -> "Iterator[QDialog]":
    from qlora_studio.core.config.run_config import RunConfig
    from qlora_studio.storage.run_care.run_label import RunLabel
    from qlora_studio.ui.elsewhere.dialog import ElsewhereDialog
    from qlora_studio.ui.runs.label_dialog import LabelDialog
    from qlora_studio.ui.runs.run_file import CommandDialog
    from qlora_studio.ui.sweep.dialog import SweepDialog

    yield LabelDialog(app_window.window, RunLabel())
    yield LabelDialog(app_window.window, RunLabel(), several=2)
    yield CommandDialog(app_window.window, "runs/1-trained")
    yield SweepDialog(RunConfig(name="support-bot"), app_window.window)
    yield ElsewhereDialog("support-bot", app_window.window)


def _ask_all(app_window: "AppWindow", look: "Callable[[QDialog], None]") -> None:
    """Ask each question that there is, look at its box, and close it."""
    from PySide6.QtCore import QTimer
    from PySide6.QtWidgets import QApplication, QDialog

    from qlora_studio.ui.window import dialogs

    def look_and_close() -> None:
        box = QApplication.activeModalWidget()
        assert isinstance(box, QDialog)
        look(box)
        box.reject()

    window = app_window.window
    for ask in (
        lambda: dialogs.ask_discard(window, ""),
        lambda: dialogs.ask_closing(window, ("",)),
        lambda: dialogs.ask_closing(window, ("", "")),
        lambda: dialogs.ask_trust(window, "", ()),
        lambda: dialogs.ask_end_worker(window, ""),
        lambda: dialogs.ask_cancel_job(window, "", ""),
        lambda: dialogs.ask_go_on(window, "", ""),
        lambda: dialogs.ask_other_base(window, ""),
        lambda: dialogs.ask_stop_unsaved(window, ""),
    ):
        QTimer.singleShot(0, look_and_close)
        ask()


def _settle(app: "QApplication") -> None:
    until = time.monotonic() + 0.3
    _wait(app, lambda: time.monotonic() > until)


def _wait(app: "QApplication", done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        app.processEvents()
        time.sleep(0.005)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
