"""Presses every button, menu entry and choice of the real window once, and tells what keeps it from answering.

    python -m tests.ui.click_times [--limit 0.1]

The window has a studio home with past runs and one at work; its workers and the desktop are those of the monkey. What
takes longer than the limit between two turns of the event loop, by the thread's own work, is printed with its stack.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PySide6.QtCore import QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QComboBox, QMenu, QWidget
from shiboken6 import isValid

from qlora_studio.ui.app import AppWindow, new_application
from qlora_studio.ui.kit.letters import plain
from qlora_studio.ui.window.reachable import action_entries, name_of
from tests.ui.monkey.world import make_world
from tests.ui.watchdog import Watchdog

LIMIT = 0.1
_SETTLE_MILLISECONDS = 150
_ANSWER_MILLISECONDS = 25
_MOST_CHOICES = 8
_NOT_PRESSED = ("Close QLoRA Studio",)


class Press(NamedTuple):
    """Something to press: its page, its words, and how."""

    page: str
    words: str
    do: Callable[[], object]


def main() -> None:
    """Press everything; end with 1 where something took too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=LIMIT)
    limit = parser.parse_args().limit
    with tempfile.TemporaryDirectory() as place:
        world = make_world(Path(place), new=False)
        world.begin_run(0.1)
        try:
            pressed, slow = press_all(limit)
        finally:
            world.end()
    print(f"{pressed} presses, {len(slow)} of them slow")
    print("\n".join(slow))
    sys.exit(bool(slow))


def press_all(limit: float) -> tuple[int, list[str]]:
    """Open the window and press everything on every page; return how much that was, and what was slow."""
    new_application()
    app_window = AppWindow()
    completed: list[bool] = []
    app_window.completed.connect(lambda: completed.append(True))
    app_window.show()
    while not completed:
        QTest.qWait(10)
    QTest.qWait(3000)  # what the launch began
    watchdog, answers = Watchdog(limit=limit, ours=("click_times",)), QTimer()
    answers.timeout.connect(_close_what_came_up)
    answers.start(_ANSWER_MILLISECONDS)
    pressed = 0
    for name in app_window.window.pages:
        done: set[str] = set()
        while (press := _next(app_window, name, done)) is not None:
            done.add(press.words)
            with watchdog.watching(f"{press.page}: {press.words}"):
                press.do()
                QTest.qWait(_SETTLE_MILLISECONDS)
            pressed += 1
    answers.stop()
    watchdog.end()
    app_window.destroy()
    return pressed, [str(stall) for stall in watchdog.stalls]


def _next(app_window: AppWindow, name: str, done: set[str]) -> Press | None:
    """Return what is there to press and was not yet; the page is looked at anew after each press."""
    window = app_window.window
    if window.current_page() is not window.pages[name]:
        return Press(name, f"shown {len(done)}", partial(window.show_page, name))
    return next((press for press in _presses(app_window, name) if press.words not in done), None)


def _presses(app_window: AppWindow, name: str) -> Iterator[Press]:
    window = app_window.window
    page = window.pages[name]
    for widget in page.findChildren(QWidget):
        if isinstance(widget, QMenu):
            for action in widget.actions():
                if action.isEnabled() and action.isVisible() and action.text() and not action.menu():
                    yield Press(name, f"menu {plain(action.text())}", action.trigger)
        elif not widget.isVisibleTo(page) or not widget.isEnabled():
            continue
        elif isinstance(widget, QAbstractButton) and name_of(widget):
            yield Press(name, name_of(widget), widget.click)
        elif isinstance(widget, QComboBox) and 0 < widget.count() <= _MOST_CHOICES:
            for index in range(widget.count()):
                yield Press(name, f"{name_of(widget)} = {widget.itemText(index)}", partial(_choose, widget, index))
    if name == "start":
        for entry in action_entries(window):
            if entry.title not in _NOT_PRESSED:
                yield Press(name, f"action {entry.title}", entry.run)


def _choose(box: QComboBox, index: int) -> None:
    box.setCurrentIndex(index)
    box.activated.emit(index)


def _close_what_came_up() -> None:
    """Leave a dialog or a menu without an answer."""
    for widget in (QApplication.activePopupWidget(), QApplication.activeModalWidget()):
        if widget is not None and isValid(widget):
            widget.close()


if __name__ == "__main__":
    main()
