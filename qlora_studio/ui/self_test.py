"""`qlora-studio --self-test`: builds the window, visits every page, and reports what a person would have to see."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psutil

from qlora_studio.core.exit_code import ExitCode
from qlora_studio.ui.qt_check import require_qt

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

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
    window.painted.connect(lambda: completed.append(time.time()))
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
    run_page = window.window.pages["run"]
    window.window.show_page("run")
    _pump(app, lambda: "pyqtgraph" in sys.modules or not run_page.isVisible())
    window.end()
    window.window.close_now()
    qInstallMessageHandler(None)
    return {
        "first_paint_seconds": round(completed[0] - psutil.Process().create_time(), 3),
        "pages": pages,
        "heavy_modules": [name for name in HEAVY if name in sys.modules],
        "errors": errors,
    }


def _pump(app: "QApplication", done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not done() and time.monotonic() < deadline:
        app.processEvents()
        time.sleep(0.002)
