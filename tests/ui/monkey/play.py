"""Plays actions at the real window of a process of its own, and says what went wrong first.

    python -m tests.ui.monkey.play PLACE     with the actions as JSON on stdin

The last line of stdout is a JSON object. A process that dies without it was brought down by the action that `at` in
PLACE names.
"""

import faulthandler
import gc
import json
import os
import re
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

from PySide6.QtCore import QMessageLogContext, QThreadPool, QtMsgType, qInstallMessageHandler
from PySide6.QtTest import QTest

from qlora_studio.storage.settings import load_settings
from qlora_studio.ui.app import AppWindow, new_application
from qlora_studio.ui.window.whole_errors import forget_handled, with_whole_errors
from tests.ui.monkey import invariants
from tests.ui.monkey.actions import Action
from tests.ui.monkey.hand import Hand
from tests.ui.monkey.world import World, make_world
from tests.ui.watchdog import Watchdog

HUNG_SECONDS = 60
_WATCHED = 20  # actions together: each watch is a thread of its own
_HARMLESS = ("This plugin does not support", "QXcb", "Could not connect to", "propagateSizeHints")
_LOOK_EVERY = 25  # actions: at words and files
_SETTLE_EVERY = 150
_SETTLE_SECONDS = 6.0
_OURS = ("hand", "play", "invariants", "world", "__main__", "runpy")


class Found(Exception):
    """Something that must not be. `kind` is what makes two of them the same."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind, self.words = kind, words


class Game:
    """The window, its world and those who watch it."""

    def __init__(self, place: Path, limit: float, passed_over: str, *, new: bool) -> None:
        self.world: World = make_world(place, new=new)
        self.app = new_application()
        gc.set_threshold(50_000, 20, 100)  # as `app.main` has it
        self.said: list[Found] = []
        self.passed_over: Counter[str] = Counter()
        self._known = re.compile(passed_over) if passed_over else None
        self._listen()
        self.watchdog = Watchdog(limit=limit, ours=_OURS)
        self.hand = Hand(self.world)
        self.at = place / "at"
        self._at = os.open(self.at, os.O_CREAT | os.O_WRONLY)
        self._asked_to_close = False
        self.app_window = self._opened()

    def play(self, actions: list[Action]) -> None:
        """Do one after another; raises Found."""
        for number, action in enumerate(actions):
            if number % _WATCHED == 0:
                faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True)
            os.pwrite(self._at, f"{number:9}".encode(), 0)
            self._do(action)
            if number % _LOOK_EVERY == _LOOK_EVERY - 1:
                self._look_closely()
            if number % _SETTLE_EVERY == _SETTLE_EVERY - 1:
                self._settle()
        self._settle()
        self._look_closely()

    def end(self) -> None:
        """Close everything."""
        faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True)
        self.hand.end()
        self.watchdog.end()
        self._leave()
        self.world.end()
        self._complain()

    def _do(self, action: Action) -> None:
        self.watchdog.begin(str(action))
        self.hand.act(action, self.app_window)
        self.app.processEvents()
        self.watchdog.turn()
        self.app.processEvents()
        self.watchdog.rest()
        if not self.app_window.window.isVisible() and self._asked_to_close:  # at once, or once its runs were saved
            self._asked_to_close = False
            self._leave()
            self.app_window = self._opened()
        if not self.app_window.window.isVisible():
            self._tell(Found("state", "the window is gone, and nobody closed it"))
        self._complain()
        for words in invariants.wrong_now(self.app_window):
            self._tell(Found("state", words))
        if self.hand.stuck:
            self._tell(Found("stuck", f"nothing closes {self.hand.stuck}"))

    def _opened(self) -> AppWindow:
        app_window = AppWindow()
        done: list[bool] = []
        app_window.completed.connect(lambda: done.append(True))
        app_window.window.close_requested.connect(self._on_close_requested)
        app_window.show()
        until = time.monotonic() + 30
        while not done and time.monotonic() < until:
            QTest.qWait(5)
        app_window.window.activateWindow()
        return app_window

    def _on_close_requested(self) -> None:
        """Know that the window may go: it is asked by its frame, by a key, and in the palette."""
        self._asked_to_close = True

    def _leave(self) -> None:
        """Close the window as the end of the process does: nothing that it asked for is answered afterwards."""
        self.app_window.end()
        QThreadPool.globalInstance().waitForDone(5000)
        self.app.processEvents()
        self.app_window.destroy()

    def _look_closely(self) -> None:
        for words in invariants.wrong_words(self.app_window):
            self._tell(Found("words", words))
        settings = self.app_window.studio.settings if self.app_window.studio else load_settings()
        for words in self.world.worker_faults():
            self._tell(Found("worker", words))
        for words in self.world.changes(settings):
            self._tell(Found("files", words))

    def _settle(self) -> None:
        """Do nothing until everything that was promised holds."""
        until = time.monotonic() + _SETTLE_SECONDS
        while broken := [words for words, holds in invariants.promises(self.app_window) if not holds()]:
            if time.monotonic() > until:
                self._tell(Found("promise", f"it does not come true that {'; that '.join(broken)}"))
                break
            QTest.qWait(50)
        self._complain()
        if self.app_window.studio is not None and self.app_window.studio.settings.runs_dir:
            self.app_window.studio.change_settings(runs_dir="")  # elsewhere, most of what is tried comes to nothing

    def _complain(self) -> None:
        said, stalls = [*self.said], [*self.watchdog.stalls]
        self.said.clear()
        self.watchdog.stalls.clear()
        for found in (*said, *(Found("stall", str(stall)) for stall in stalls)):
            self._tell(found)

    def _tell(self, found: Found) -> None:
        """Raise it, unless it is known and passed over."""
        if self._known is None or not self._known.search(f"{found.kind}: {found.words}"):
            raise found
        self.passed_over[f"{found.kind}: {found.words[:400]}"] += 1

    def _listen(self) -> None:
        """Hear of every exception, in any thread, and of every warning of Qt."""

        def on_error(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
            words = "".join(traceback.format_exception(kind, error, trace))
            self.said.append(Found(f"exception {kind.__name__} {_last_line(words)}", words))

        def on_message(kind: QtMsgType, _context: QMessageLogContext, text: str) -> None:
            if kind == QtMsgType.QtFatalMsg:
                print(text, file=sys.stderr, flush=True)  # it ends the process
            if kind not in (QtMsgType.QtDebugMsg, QtMsgType.QtInfoMsg) and not text.startswith(_HARMLESS):
                stack = "".join(traceback.format_stack(limit=12)[:-1])
                self.said.append(Found(f"qt {text[:60]}", f"Qt warns: {text}\n{stack}"))

        sys.__excepthook__ = on_error  # the window's own hook calls it before it shows the error
        sys.unraisablehook = lambda it: on_error(it.exc_type, it.exc_value, it.exc_traceback)
        threading.excepthook = lambda it: on_error(it.exc_type, it.exc_value, it.exc_traceback)
        qInstallMessageHandler(on_message)


def main() -> int:
    """Play what stands on stdin."""
    faulthandler.enable()
    order = json.loads(sys.stdin.read())
    place = Path(sys.argv[1])
    actions = [Action(*action) for action in order["actions"]]
    game = Game(place, order["limit"], order["passed_over"], new=order["new"])
    answer = with_whole_errors(lambda: _outcome(game, actions))  # as `app.main` has it
    answer |= {"at": int(game.at.read_text() or 0), "cpu": time.process_time(), "worst": _worst(game.watchdog)}
    answer["passed_over"] = dict(game.passed_over)
    print(json.dumps(answer), flush=True)
    faulthandler.cancel_dump_traceback_later()
    return 0


def _outcome(game: Game, actions: list[Action]) -> dict[str, Any]:
    try:
        game.play(actions)
        game.end()
    except Found as found:
        return {"found": found.kind, "words": found.words}
    except Exception as error:  # noqa: BLE001  # the window's own hook would swallow it
        forget_handled(error)
        words = traceback.format_exc()
        within = traceback.extract_tb(error.__traceback__)[-1].filename
        kind = f"exception {type(error).__name__} {_last_line(words)}"  # of an event that the monkey sent
        return {"found": kind if "qlora_studio" in within else "the monkey", "words": words}
    return {"found": ""}


def _worst(watchdog: Watchdog) -> list[float]:
    """Return the longest gaps by the thread's own work, in milliseconds."""
    works = sorted((gap.work for gaps in watchdog.gaps().values() for gap in gaps), reverse=True)
    return [round(1000 * work, 1) for work in works[:8]]


def _last_line(words: str) -> str:
    places = re.findall(r'File "[^"]*?(\w+\.py)", line \d+, in (\w+)', words)
    return " ".join(places[-1]) if places else ""


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # what is left of Qt is not what is tried here
