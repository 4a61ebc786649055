"""How long the window does not answer: the gaps between two turns of its event loop while it is used.

    python -m tests.benchmarks.event_loop [--rows 200000] [--row-tokens 30000] [--seconds 10] [--keep]

The real window, offscreen where there is no screen, with a real worker behind the Data page. Prints for each phase the
50th, 95th and 99th percentile of the gaps and the worst one, by the clock and by the work of the window's own thread
(which a busy machine does not lengthen), and what was at work in the worst. With --keep the figures go to
`tests/benchmarks/results/event_loop.json`.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy

from tests.benchmarks.reading import conversations, record

RESULT = Path(__file__).parent / "results" / "event_loop.json"
LATE_SECONDS = 0.03  # from here on it is noted what is at work
_WAIT_SECONDS = 3600.0
_EVENTS_PER_SECOND = 40
_LIMIT_SECONDS = 0.1


def main() -> None:
    """Use the window and print the gaps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--row-tokens", type=int, default=30_000, help="of the longest row")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a live run")
    parser.add_argument("--keep", action="store_true", help="write the figures to the results")
    arguments = parser.parse_args()
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    with tempfile.TemporaryDirectory() as place:
        os.environ["QLORA_STUDIO_HOME"] = place
        figures = use_window(Path(place), arguments)
    print(f"{'phase':<24}{'turns':>7}{'p50':>7}{'p95':>7}{'p99':>7}{'worst':>7}{'own work':>10}   at work in the worst")
    for name, facts in figures.items():
        numbers = "".join(f"{facts[key]:>7.0f}" for key in ("p50", "p95", "p99", "worst"))
        print(f"{name:<24}{facts['turns']:>7}{numbers}{facts['worst_work']:>10.0f}   {facts['at_work'][:110]}")
    over = [name for name, facts in figures.items() if facts["worst"] > 1000 * _LIMIT_SECONDS]
    print(f"milliseconds; over {1000 * _LIMIT_SECONDS:.0f}: {', '.join(over) or 'none'}")
    if arguments.keep:
        facts = {"cores": os.cpu_count(), "python": platform.python_version(), **vars(arguments), "phases": figures}
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def use_window(place: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Go through everything that a person does, and return the gaps of each phase in milliseconds."""
    from qlora_studio.ui.app import AppWindow, new_application

    app = new_application()
    watch = Watch()
    use = Use(app, watch)
    painted: list[bool] = []
    completed: list[bool] = []
    with watch.phase("until the first paint"):
        window = AppWindow()
        window.painted.connect(lambda: painted.append(True))
        window.completed.connect(lambda: completed.append(True))
        window.show()
        use.wait(lambda: painted)
    with watch.phase("after the first paint"):
        use.wait(lambda: completed)
        use.rest(1.0)
    for phase in ("each page, first time", "each page, again"):
        with watch.phase(phase):
            for name in window.window.rail.names():
                window.window.show_page(name)
                use.rest(0.3)
    with watch.phase("another theme"):
        use.change_theme(window)
    use.look_at_data(window, write_rows(place / "rows.jsonl", arguments), arguments)
    use.watch_runs(window, place, arguments.seconds)
    window.destroy()
    return watch.figures()


def write_rows(path: Path, arguments: argparse.Namespace) -> Path:
    """Write short conversations, and one long one in their midst."""
    with path.open("w", encoding="utf-8") as file:
        for number, (question, answer) in enumerate(conversations(arguments.rows, 30)):
            if number == arguments.rows // 2:
                answer = "\n".join(f"line {line} of many, with \u200b and \u202e in it" for line in range(10**6))
                answer = answer[: 3 * arguments.row_tokens]
            file.write(json.dumps(record(question, answer)) + "\n")
    return path


class Watch:
    """Notes the gaps between two turns of the event loop, and what the window's thread was at meanwhile."""

    def __init__(self) -> None:
        from PySide6.QtCore import Qt, QTimer

        self._phase = ""
        self._gaps: dict[str, list[tuple[float, float]]] = {}
        self._worst: dict[str, tuple[float, str]] = {}
        self._main = threading.get_ident()
        self._last, self._work = time.perf_counter(), time.thread_time()
        self._seen: Counter[str] = Counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(2)
        self._timer.timeout.connect(self._on_turn)
        threading.Thread(target=self._look, daemon=True).start()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the gaps for a phase."""
        self._phase = name
        self._last, self._work = time.perf_counter(), time.thread_time()
        self._timer.start()
        yield
        self._on_turn()
        self._timer.stop()
        self._phase = ""

    def figures(self) -> dict[str, Any]:
        """Return the gaps of each phase, in milliseconds."""
        return {name: self._figures(name, numpy.array(gaps) * 1000) for name, gaps in self._gaps.items()}

    def _figures(self, name: str, gaps: Any) -> dict[str, Any]:
        p50, p95, p99 = numpy.percentile(gaps[:, 0], (50, 95, 99))
        return {
            "turns": len(gaps),
            "p50": round(float(p50), 1),
            "p95": round(float(p95), 1),
            "p99": round(float(p99), 1),
            "worst": round(float(gaps[:, 0].max()), 1),
            "worst_work": round(float(gaps[:, 1].max()), 1),
            "at_work": self._worst.get(name, (0, ""))[1],
        }

    def _on_turn(self) -> None:
        now, work = time.perf_counter(), time.thread_time()
        gap, own = now - self._last, work - self._work
        self._gaps.setdefault(self._phase, []).append((gap, own))
        seen, self._seen = self._seen, Counter()
        if seen and own > self._worst.get(self._phase, (0.0, ""))[0]:
            self._worst[self._phase] = own, "; ".join(f"{count}x {where}" for where, count in seen.most_common(3))
        self._last, self._work = now, work

    def _look(self) -> None:
        """Look every few milliseconds what the window's thread does, where it is late."""
        while True:
            time.sleep(0.004)
            if self._phase and time.perf_counter() - self._last > LATE_SECONDS:
                frame: Any = sys._current_frames().get(self._main)
                calls: list[str] = []
                while frame is not None and len(calls) < 40:
                    code = frame.f_code
                    calls.append(f"{Path(code.co_filename).stem}.{code.co_name}:{frame.f_lineno}")
                    frame = frame.f_back
                known = [call for call in calls if not call.startswith(("event_loop", "threading", "<frozen"))]
                self._seen[" < ".join(known[:4]) or "Qt alone"] += 1


class Use:
    """What a person does, one thing after another."""

    def __init__(self, app: Any, watch: Watch) -> None:
        self._app, self._watch = app, watch

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

    def change_theme(self, window: Any) -> None:
        """Go to the dark theme and back."""
        from qlora_studio.ui.kit.theme import DARK, LIGHT, apply_theme

        for theme in (DARK, LIGHT):
            apply_theme(self._app, theme)
            self.rest(0.5)

    def look_at_data(self, window: Any, path: Path, arguments: argparse.Namespace) -> None:
        """Read a large dataset; drag the max length, filter rows, and look at the longest row."""
        from qlora_studio.storage.presets import load_preset

        studio, page = window.studio, window.window.pages["data"]
        config = load_preset("starter").with_value("data.path", str(path))
        with self._watch.phase("a large dataset is read"):
            studio.draft.replace(config.with_value("training.max_length", 2 * arguments.row_tokens))
            window.window.show_page("data")
            self.wait(lambda: studio.data.store.state.failure or studio.data.store.state.activity == "ready")
            self.rest(1.0)
        if studio.data.store.state.failure:
            raise SystemExit(studio.data.store.state.failure.message)
        with self._watch.phase("rows are filtered"):
            for text in ("9", "99", "99 ", "", "a", "ab", ""):
                page.rows.search.setText(text)
                self.rest(0.2)
            for pill in page.rows.pills.values():
                pill.click()
                self.rest(0.2)
        with self._watch.phase("the longest row"):
            page.xray.picks["longest"].click()
            self.wait(lambda: len(page.xray.tokens.tokens()) > arguments.row_tokens // 2)
            self.rest(1.5)
        with self._watch.phase("its tokens are read"):
            self._read_tokens(page)
        with self._watch.phase("its record and text"):
            page.xray.more.click()
            self.rest(1.0)
            page.xray.more.click()
            self.rest(0.5)
        with self._watch.phase("window sizes"):
            for size in ((1024, 640), (1440, 900), (1200, 800)):
                window.window.resize(*size)
                self.rest(0.5)
        with self._watch.phase("the max length is dragged"):
            self._drag(page.lengths.histogram)

    def _read_tokens(self, page: Any) -> None:
        from PySide6.QtCore import Qt
        from PySide6.QtTest import QTest

        bar = page.xray.tokens.verticalScrollBar()
        for share in range(0, 101, 2):
            bar.setValue(bar.maximum() * share // 100)
            self.rest(0.02)
        for key in (Qt.Key.Key_Home, Qt.Key.Key_PageDown, Qt.Key.Key_End, Qt.Key.Key_PageUp):
            QTest.keyClick(page.xray.tokens, key)
            self.rest(0.1)

    def _drag(self, histogram: Any) -> None:
        from PySide6.QtCore import QPoint, Qt
        from PySide6.QtTest import QTest

        y, start = histogram.height() // 2, round(histogram.line_x())
        QTest.mousePress(histogram, Qt.MouseButton.LeftButton, pos=QPoint(start, y))
        for x in range(start, histogram.width() // 4, -4):
            QTest.mouseMove(histogram, QPoint(x, y))
            self.rest(0.01)
        QTest.mouseRelease(histogram, Qt.MouseButton.LeftButton, pos=QPoint(histogram.width() // 4, y))
        self.rest(2.0)

    def watch_runs(self, window: Any, place: Path, seconds: float) -> None:
        """Replay a long run, then watch one at 40 events a second."""
        from qlora_studio.core.run.events import Finished
        from qlora_studio.ui.showcase.sample_run import sample_events, write_sample_run

        page, studio = window.window.pages["run"], window.studio
        long = write_sample_run(place / "runs" / "long", steps=20_000, ending=Finished())
        with self._watch.phase("a long run is replayed"):
            studio.runs.open(long)
            window.window.show_page("run")
            self.wait(lambda: page.plots.is_plot_ready() and len(page.plots.smoothed_loss()) >= 20_000)
            self.rest(1.0)
        live = write_sample_run(place / "runs" / "live", steps=1)
        events = list(sample_events(int(seconds * _EVENTS_PER_SECOND)))[10:]
        with live.lock(), self._watch.phase("a run at 40 events a second"):
            studio.runs.open(live)
            teller = threading.Thread(target=_tell, args=(live, events), daemon=True)
            teller.start()
            self.wait(lambda: not teller.is_alive())
            self.rest(0.5)
        studio.runs.leave_all()


def _tell(folder: Any, events: list[Any]) -> None:
    from qlora_studio.storage.runs.message_log import MessageLogWriter

    with MessageLogWriter(folder.events_path) as log:
        for event in events:
            log.append(event)
            time.sleep(1 / _EVENTS_PER_SECOND)


if __name__ == "__main__":
    main()
