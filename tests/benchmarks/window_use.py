"""What a person does with the window, one thing after another: for the benchmark of its event loop."""

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest

from qlora_studio.core.run.events import Finished
from qlora_studio.storage.presets import load_preset
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.kit.theme import DARK, LIGHT, apply_theme
from qlora_studio.ui.showcase.sample_run import sample_config, sample_events, write_sample_run
from tests.ui.watchdog import Watchdog

EVENTS_PER_SECOND = 200
_WAIT_SECONDS = 3600.0
_RUN_STEPS = 40  # of each run in the list


class Use:
    """Uses the window and notes what each phase took, for whoever waits for it."""

    def __init__(self, app: Any, watchdog: Watchdog) -> None:
        self.seconds: dict[str, float] = {}
        self._app, self._watchdog = app, watchdog

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens for a phase."""
        with self._watchdog.watching(name):
            yield

    def heard(self, signal: Any) -> list[bool]:
        """Return a list that has something in it once the signal came."""
        told: list[bool] = []
        signal.connect(lambda: told.append(True))
        return told

    def wait(self, condition: Callable[[], object]) -> None:
        """Let the window live until something holds."""
        until = time.monotonic() + _WAIT_SECONDS
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError("waited in vain")
            self._app.processEvents()
            time.sleep(0.001)

    def rest(self, seconds: float) -> None:
        """Let the window live for some time."""
        until = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > until)

    def change_theme(self, window: Any, name: str) -> None:
        """Go to the dark theme and back, on every page."""
        with self.phase(name):
            for page in window.window.rail.names():
                window.window.show_page(page)
                self.rest(0.2)
                for theme in (DARK, LIGHT):
                    apply_theme(self._app, theme)
                    self.rest(0.2)

    def look_at_data(self, window: Any, path: Path, row_tokens: int) -> None:
        """Read a large dataset; drag the max length, filter rows, and look at the longest row."""
        studio, page = window.studio, window.window.pages["data"]
        config = load_preset("starter").with_value("data.path", str(path))
        with self.phase("a large dataset is read"):
            studio.draft.replace(config.with_value("training.max_length", 2 * row_tokens))
            began = time.monotonic()
            window.window.show_page("data")
            self.wait(lambda: studio.data.store.state.failure or studio.data.store.state.activity == "ready")
            self.seconds["a large dataset is read"] = time.monotonic() - began
            self.rest(1.0)
        if studio.data.store.state.failure:
            raise SystemExit(studio.data.store.state.failure.message)
        with self.phase("rows are filtered"):
            for text in ("9", "99", "99 ", "", "a", "ab", ""):
                page.rows.search.setText(text)
                self.rest(0.2)
            for pill in page.rows.pills.values():
                pill.click()
                self.rest(0.2)
        with self.phase("all rows are copied"):
            page.rows.table.setFocus()
            QTest.keyClick(page.rows.table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
            self.rest(1.0)
        with self.phase("the longest row"):
            page.xray.picks["longest"].click()
            self.wait(lambda: len(page.xray.tokens.tokens()) > row_tokens // 2)
            self.rest(1.5)
        with self.phase("its tokens are read"):
            self._read_tokens(page)
        with self.phase("its record and text"):
            page.xray.more.click()
            self.rest(1.0)
            page.xray.more.click()
            self.rest(0.5)
        with self.phase("window sizes"):
            for size in ((1024, 640), (1440, 900), (1200, 800)):
                window.window.resize(*size)
                self.rest(0.5)
        with self.phase("the max length is dragged"):
            self._drag(page.lengths.histogram)

    def _read_tokens(self, page: Any) -> None:
        bar = page.xray.tokens.verticalScrollBar()
        for share in range(0, 101, 2):
            bar.setValue(bar.maximum() * share // 100)
            self.rest(0.02)
        for key in (Qt.Key.Key_Home, Qt.Key.Key_PageDown, Qt.Key.Key_End, Qt.Key.Key_PageUp):
            QTest.keyClick(page.xray.tokens, key)
            self.rest(0.1)

    def _drag(self, histogram: Any) -> None:
        y, start = histogram.height() // 2, round(histogram.line_x())
        QTest.mousePress(histogram, Qt.MouseButton.LeftButton, pos=QPoint(start, y))
        for x in range(start, histogram.width() // 4, -4):
            QTest.mouseMove(histogram, QPoint(x, y))
            self.rest(0.01)
        QTest.mouseRelease(histogram, Qt.MouseButton.LeftButton, pos=QPoint(histogram.width() // 4, y))
        self.rest(2.0)

    def watch_runs(self, window: Any, place: Path, arguments: argparse.Namespace) -> None:
        """List many runs, replay a long one, then watch one at 200 events a second, with everything else meanwhile."""
        for number in range(arguments.runs):
            write_run(place / "runs" / f"{number:04}-listed", _RUN_STEPS)
        with self.phase("many runs are listed"):
            began = time.monotonic()
            window.window.show_page("runs")
            self.wait(lambda: window.window.pages["runs"].model.rowCount() >= arguments.runs)
            self.seconds["many runs are listed"] = time.monotonic() - began
            self.rest(1.0)
        long = write_run(place / "runs" / "long", arguments.points)
        page, studio = window.window.pages["run"], window.studio
        with self.phase("a long run is replayed"):
            began = time.monotonic()
            studio.runs.open(long)
            window.window.show_page("run")
            self.wait(lambda: page.plots.is_plot_ready() and len(page.plots.smoothed_loss()) >= arguments.points)
            self.seconds["a long run is replayed"] = time.monotonic() - began
            self.rest(1.0)
        self._watch_live(window, write_run(place / "runs" / "live", arguments.points, over=False), arguments.seconds)
        studio.runs.leave_all()

    def _watch_live(self, window: Any, live: RunFolder, seconds: float) -> None:
        """Watch a run that had as many steps already; then go through the pages while it works."""
        studio, page = window.studio, window.window.pages["run"]
        for name, pages in (
            ("a run at 200 events a second", ["run"]),
            ("the pages meanwhile", window.window.rail.names()),
        ):
            with live.lock():
                studio.runs.open(live)
                window.window.show_page("run")
                self.wait(lambda: len(page.plots.smoothed_loss()) >= 10)
                self.rest(1.0)
                events = list(sample_events(int(seconds * EVENTS_PER_SECOND)))[10:]
                teller = threading.Thread(target=_tell, args=(live, events), daemon=True)
                with self.phase(name):
                    teller.start()
                    while teller.is_alive():
                        for shown in pages:
                            window.window.show_page(shown)
                            self.rest(0.3)


def write_run(path: Path, steps: int, *, over: bool = True) -> RunFolder:
    """Write a run of many steps: the first by the program, the rest by hand, which is quicker by far."""
    folder = write_sample_run(path, steps=1)
    folder.write_config(sample_config().with_value("name", path.name))
    step = folder.events_path.read_text("utf-8").splitlines()[-1]
    facts = json.loads(step)
    with folder.events_path.open("a", encoding="utf-8") as file:
        for number in range(2, steps + 1):
            loss = 0.9 + 40 / (30 + number) + 0.01 * (number * 7919 % 13)
            file.write(json.dumps(facts | {"step": number, "total_steps": steps, "loss": loss}) + "\n")
    if over:
        with MessageLogWriter(folder.events_path) as log:
            log.append(Finished())
    return folder


def _tell(folder: RunFolder, events: list[Any]) -> None:
    with MessageLogWriter(folder.events_path) as log:
        for event in events:
            log.append(event)
            time.sleep(1 / EVENTS_PER_SECOND)
