"""Builds the program: the window with its first page at once, and all else behind it.

After the first paint another thread imports the rest, and the other pages are made one at a time, so that the window
answers meanwhile; then the card and the runs at work follow. The pages, and who connects each, stand in `wiring`.
"""

import contextlib
import gc
import importlib
import locale
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QIcon
from PySide6.QtWidgets import QApplication, QWidget
from shiboken6 import isValid

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.languages import spoken_language
from qlora_studio.storage.resources import resource
from qlora_studio.storage.session import load_session
from qlora_studio.storage.settings import Settings, load_settings
from qlora_studio.ui.kit.fonts import set_text_size
from qlora_studio.ui.kit.language import speak_as
from qlora_studio.ui.kit.qt_types import made_qt_types
from qlora_studio.ui.kit.theme import apply_theme, chosen_theme
from qlora_studio.ui.memory.panel import GpuPanel
from qlora_studio.ui.start.page import StartPage
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.status import window_title
from qlora_studio.ui.window.dialogs import Closing, ask_closing
from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.page import Page
from qlora_studio.ui.window.place import place_of
from qlora_studio.ui.window.whole_errors import forget_handled, with_whole_errors

_TURN_SECONDS = 0.005  # of building pages, between which the window answers: a step that begins then takes as long
_SWITCH_SECONDS = 0.0005  # how long another thread, that imports or reads, may keep Python for itself

if TYPE_CHECKING:
    from qlora_studio.ui.state.studio import Studio


def main(*, demo: bool = False, opened: str = "") -> int:
    """Open the window and return when it is closed; with `demo`, start the starter project in it.

    `opened` is a file or folder that a file manager opened with it.
    """
    return with_whole_errors(lambda: _main(demo, opened))


def new_application() -> QApplication:
    """Return the application, dressed, with numbers as `run.toml` writes them."""
    gc.set_threshold(50_000, 20, 100)  # a long run is read in new objects by the hundred thousand, none in a circle
    sys.setswitchinterval(_SWITCH_SECONDS)
    app = QApplication(sys.argv[:1])
    app.setApplicationName("qlora-studio")
    app.setApplicationDisplayName("QLoRA Studio")
    app.setDesktopFileName("qlora-studio")
    app.setQuitOnLastWindowClosed(True)
    speak_as(app, spoken_language())
    locale.setlocale(locale.LC_NUMERIC, "C")  # a decimal comma has broken tokenizers
    with contextlib.suppress(ValueError):  # not in the main thread: a test
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return app


class AppWindow(QObject):
    """The window with everything behind it.

    Signals:
        painted: the window was painted for the first time.
        completed: all pages are there and connected.
    """

    painted = Signal()
    completed = Signal()

    def __init__(self, *, demo: bool = False, opened: str = "") -> None:
        super().__init__()
        self.studio: Studio | None = None
        self._settings, self._session = load_settings(), load_session()
        self._demo, self._opened = demo, opened
        self._closing = False
        self._ticks: QTimer | None = None
        _dress(self._settings)
        self.panel = GpuPanel()
        self.window = MainWindow(self.panel)
        self.start_page = StartPage()
        self.window.add_page(self.start_page)
        self._first_page = self._add_first_page()
        self.window.show_page(self._first_page)
        if self._session.place is not None:
            self.window.take_place(self._session.place)
        self.window.show_panel(self._session.panel)
        self._import = Background(self)
        self._import.answered.connect(self._on_import_answered)
        self._first_paint = _FirstPaint(self.window, self._on_first_paint)
        self.window.close_requested.connect(self._on_close_requested)
        sys.excepthook = self._on_unexpected_error

    def show(self) -> None:
        """Show the window; the rest follows after its first paint."""
        self.window.show()

    def show_error(self, error: StudioError) -> None:
        """Show an error on the page that is open."""
        self.window.current_page().show_error(error)

    def keep_idle_worker(self) -> None:
        """Have a worker ready for the next run, as the program's own window does and no other."""
        if self.studio is not None:
            self.studio.keep_idle_worker()

    def end(self) -> None:
        """Leave what is at work to itself and stop every thread."""
        sys.excepthook = sys.__excepthook__
        if self._ticks is not None:
            self._ticks.stop()
        if self.studio is not None:
            keeper = self.studio.session
            there = {"place": place_of(self.window), "panel": self.window.is_panel_wanted}
            keeper.take(keeper.session.model_copy(update=there))
            self.studio.end()

    def destroy(self) -> None:
        """End, and delete the widgets while Python still knows them: its own order of deletion crashes in plots."""
        self.end()
        self.window.close_now()
        self.window.deleteLater()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)

    def _on_first_paint(self) -> None:
        self.painted.emit()

        def steps() -> Iterator[None]:
            yield from made_qt_types()
            self._import.ask(importlib.import_module, "qlora_studio.ui.wiring")

        _in_turn(steps())

    def _on_import_answered(self, _module: object) -> None:
        from qlora_studio.ui.state.studio import Studio
        from qlora_studio.ui.wiring import PAGES, wire_actions, wire_pages

        studio = self.studio = Studio(self._settings, self._session)

        def steps() -> Iterator[None]:
            there = {type(page) for page in self.window.pages.values()}
            for new_page in PAGES:
                if new_page not in there:
                    yield from self._added(new_page)
            self._restore_page()  # before anybody listens: nobody went there
            runs = wire_pages(studio, self.window, self.panel)
            self.window.page_shown.connect(studio.session.keep_page)
            yield
            self._begin(studio)
            self.actions = wire_actions(studio, self.window)
            runs.refresh()
            self.completed.emit()
            if self._opened:
                self.window.drops.arrived.emit([_what_is_meant(Path(self._opened))])

        _in_turn(steps())

    def _added(self, new_page: type[Page]) -> Iterator[None]:
        """Make a page, dress and measure its widgets, and add it, with a pause wherever one can be made."""
        page = new_page(at_once=False)
        yield
        self.window.take_in(page)
        yield
        yield from page.steps
        for widget in reversed(page.findChildren(QWidget)):  # the inner ones first: each takes along all within it
            widget.ensurePolished()
            widget.sizeHint(), widget.minimumSizeHint()  # which layouts keep: else all of them in the turn that adds it
            yield
        self.window.add_page(page)
        yield

    def _add_first_page(self) -> str:
        """Return the page to paint first: where nothing was ever chosen, or it was left so, the one to begin from."""
        chosen = self._session.page or self._session.draft or self._settings.last_model or self._settings.last_data
        if self._session.page == StartPage.name or not chosen:
            return StartPage.name
        from qlora_studio.ui.model.page import ModelPage

        self.window.add_page(ModelPage())
        return ModelPage.name

    def _restore_page(self) -> None:
        """Show the page of last time, unless the user went to another one meanwhile."""
        if self._session.page in self.window.pages and self.window.current_page().name == self._first_page:
            self.window.show_page(self._session.page)

    def _begin(self, studio: "Studio") -> None:
        self._ticks = QTimer(self)
        self._ticks.setInterval(1000)
        self._ticks.timeout.connect(self._render_status)
        self._ticks.start()
        _app().setWindowIcon(QIcon(str(resource("icons/qlora-studio.svg"))))  # after the first paint: it takes QtSvg
        studio.failed.connect(self.show_error)
        self._soon = QTimer(self)  # once for all that a turn of the event loop brings
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._render_status)
        studio.runs.worked.connect(self._soon.start)
        studio.runs.changed.connect(self._soon.start)
        studio.settings_changed.connect(_dress)
        QGuiApplication.styleHints().colorSchemeChanged.connect(self._on_color_scheme_changed)
        studio.begin()
        if self._demo:
            self.start_page.starter_requested.emit()
        self.start_page.begin()

    def _render_status(self) -> None:
        if self.studio is None or not isValid(self.window):
            return
        status = self.studio.status()
        self.window.status_line.render_status(status)
        self.window.setWindowTitle(window_title(status))
        if self._closing and not self.studio.names_at_work():
            self._close()

    def _on_color_scheme_changed(self) -> None:
        if self.studio is not None and self.studio.settings.theme == "system":
            apply_theme(_app(), chosen_theme("system"))

    def _on_close_requested(self) -> None:
        names = self.studio.names_at_work() if self.studio is not None else ()
        choice = ask_closing(self.window, names) if names else Closing.KEEP
        if choice == Closing.KEEP:
            self._close()
        elif choice == Closing.STOP_AND_SAVE:
            self._stop_and_close()

    def _stop_and_close(self) -> None:
        self._closing = True
        if self.studio is not None:
            self.studio.stop_work()

    def _close(self) -> None:
        self._closing = False
        self.end()
        self.window.close_now()

    def _on_unexpected_error(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """The window's top level: an error of our own is shown and reported, and the window lives on."""
        forget_handled(error)
        sys.__excepthook__(kind, error, trace)
        detail = "".join(traceback.format_exception(kind, error, trace))
        self.show_error(
            StudioError(
                say("Something went wrong in the window. Runs are not touched by it."),
                kind=FailureKind.INTERNAL,
                advice=say("Please report this with the details."),
                detail=detail,
            )
        )


class _FirstPaint(QObject):
    """Calls back once, after the window was painted for the first time."""

    def __init__(self, window: MainWindow, callback: Callable[[], None]) -> None:
        super().__init__(window)
        self._callback = callback
        window.rail.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Wait for the paint event."""
        if event.type() == QEvent.Type.Paint:
            watched.removeEventFilter(self)
            QTimer.singleShot(0, self._callback)
        return False


def _what_is_meant(path: Path) -> str:
    """Return the run where somebody opened the file that makes a folder one: a folder has no type of its own."""
    return str(path.parent if path.name == "run.toml" and (path.parent / "events.jsonl").is_file() else path)


def _main(demo: bool, opened: str) -> int:
    app = new_application()
    app_window = AppWindow(demo=demo, opened=opened)
    app_window.completed.connect(app_window.keep_idle_worker)
    app_window.show()
    code = int(app.exec())
    app_window.destroy()
    return code


def _in_turn(steps: Iterator[None]) -> None:
    """Take steps for a few milliseconds, and go on in the next turn of the event loop."""
    until = time.monotonic() + _TURN_SECONDS
    for _ in steps:
        if time.monotonic() >= until:
            QTimer.singleShot(0, lambda: _in_turn(steps))
            return


def _dress(settings: Settings) -> None:
    """Give the window the colours and the size of text that the user chose."""
    set_text_size(settings.text_size)
    apply_theme(_app(), chosen_theme(settings.theme))


def _app() -> QApplication:
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    return app
