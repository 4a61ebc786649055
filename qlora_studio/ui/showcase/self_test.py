"""`qlora-studio --self-test`: builds the window, visits every page, and reports what a person would have to see."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from qlora_studio.core.errors import ExitCode
from qlora_studio.ui.window.qt_check import require_qt

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

    from qlora_studio.ui.app import AppWindow

HEAVY = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "accelerate")
_WAIT_SECONDS = 30.0
_HARMLESS = ("This plugin does not support propagateSizeHints()",)  # the platform without a screen says so


def main(*, as_json: bool = False) -> int:
    """Run the test, print what was found, and return the exit code."""
    if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    require_qt()
    report = _visit_pages()
    well = not report["heavy_modules"] and not report["errors"]
    if as_json:
        print(json.dumps(report))
    else:
        print(f"First paint after {report['first_paint_seconds']:.2f} s. Pages: {', '.join(report['pages'])}.")
        print("Everything is there." if well else f"Problems: {report['heavy_modules']} {report['errors']}")
    return ExitCode.OK if well else ExitCode.ERROR


def _visit_pages() -> dict[str, Any]:
    from PySide6.QtCore import QtMsgType, qInstallMessageHandler

    from qlora_studio.ui.app import AppWindow, new_application

    errors: list[str] = []
    serious = (QtMsgType.QtWarningMsg, QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg)
    qInstallMessageHandler(
        lambda kind, _context, text: errors.append(text) if kind in serious and text not in _HARMLESS else None
    )
    app = new_application()
    window = AppWindow()
    completed: list[float] = []
    window.painted.connect(lambda: completed.append(seconds_since_start()))
    window.show()
    ready: list[bool] = []
    window.completed.connect(lambda: ready.append(True))
    _pump(app, lambda: bool(ready))
    pages = list(window.window.rail.names())
    for name in pages:
        window.window.show_page(name)
        app.processEvents()
        if window.window.grab().isNull():
            errors.append(f"The page {name} cannot be drawn.")
    if not _plot_is_drawn(window, lambda done: _pump(app, done)):
        errors.append("The curves of a run cannot be drawn.")
    window.destroy()
    qInstallMessageHandler(None)
    return {
        "first_paint_seconds": round(completed[0], 3),
        "pages": pages,
        "heavy_modules": [name for name in HEAVY if name in sys.modules],
        "errors": errors,
    }


def seconds_since_start() -> float:
    """Return the age of this process. On Linux from the clock since boot: psutil's start time is whole seconds off."""
    if sys.platform == "linux":
        ticks = int(Path("/proc/self/stat").read_text("ascii").rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - psutil.Process().create_time()


def _plot_is_drawn(window: "AppWindow", pump: Callable[[Callable[[], bool]], None]) -> bool:
    """Replay a run that was not trained and wait for its curves."""
    from qlora_studio.core.run.events import Finished
    from qlora_studio.ui.run.page import RunPage
    from qlora_studio.ui.showcase.sample_run import write_sample_run

    page, studio = window.window.pages["run"], window.studio
    assert isinstance(page, RunPage)
    assert studio is not None
    with tempfile.TemporaryDirectory() as place:
        studio.runs.open(write_sample_run(Path(place) / "run", steps=60, ending=Finished()))
        window.window.show_page("run")
        pump(lambda: page.plots.is_plot_ready() and len(page.plots.smoothed_loss()) == 60)
        studio.runs.leave_all()
    return page.plots.is_plot_ready()


def _pump(app: "QApplication", done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not done() and time.monotonic() < deadline:
        app.processEvents()
        time.sleep(0.002)
