"""`python spoken_window.py HOME MODEL DATA` opens the real window there and prints, as JSON, the words that it shows.

The language is that of `QLORA_STUDIO_LANGUAGE`, chosen as the program does, before anything of the window is imported.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qlora_studio.storage.languages import speak_chosen

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

    from qlora_studio.ui.app import AppWindow

_PATIENCE = 60.0


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
    _choose(app, app_window, model, data)
    for name in app_window.window.pages:
        app_window.window.show_page(name)
        _settle(app)
        app_window.window.grab()
        seen |= {(f"{name}: {where}", text) for where, text in words_of(app_window.window.pages[name])}
    seen |= {(f"window: {where}", text) for where, text in words_of(app_window.window)}
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


def _choose(app: "QApplication", app_window: "AppWindow", model: str, data: str) -> None:
    from qlora_studio.core.run.activity import Activity

    studio = app_window.studio
    assert studio is not None
    studio.draft.set_values({"model.source": model, "data.path": data})
    app_window.window.show_page("data")
    store = studio.data.store
    _wait(app, lambda: store.state.failure is not None or store.state.activity == Activity.READY)
    assert store.state.failure is None, store.state.failure


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
