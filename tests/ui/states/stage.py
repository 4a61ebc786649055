"""The real window on a stage: brought into a state by a scene, and pictured in every theme and size."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from PySide6.QtCore import QPoint, Qt, QTimer
from PySide6.QtGui import QImage, QPainter
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.kit.scrolling import ScrollArea
from qlora_studio.ui.kit.theme import DARK, LIGHT, apply_theme
from qlora_studio.ui.run.plot_card import PlotCard
from qlora_studio.ui.showcase.cards import recorded_cards
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.page import Page
from tests.ui.states.layout_faults import layout_faults

P = TypeVar("P", bound=Page)
_SETTLE_SECONDS, _PATIENCE_SECONDS = 0.12, 4.0
_WAIT_SECONDS = 180.0
_THEMES = {"light": LIGHT, "dark": DARK}


@dataclass
class Looks:
    """What is pictured and how, and what came of it: `taken` goes by theme and size."""

    place: Path | None = None  # nothing is kept without one: faults are looked for alone
    only: str = ""
    themes: tuple[str, ...] = ("light",)
    sizes: tuple[str, ...] = ("1280x720",)
    taken: dict[str, list[Path]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def wants(self, name: str) -> bool:
        """Whether a picture of this name is to be taken."""
        return not self.only or any(word in name for word in self.only.split(","))

    def wants_any(self, *beginnings: str) -> bool:
        """Whether some picture whose name begins so is to be taken."""
        pairs = [(word, beginning) for word in self.only.split(",") for beginning in beginnings]
        return any(word.startswith(beginning) or beginning.startswith(word) for word, beginning in pairs)


class Stage:
    """A window with a studio home of its own."""

    def __init__(self, app: QApplication, home: Path, looks: Looks) -> None:
        self.app, self.home, self.looks = app, home, looks
        self._app_window: AppWindow | None = None

    def __enter__(self) -> "Stage":
        os.environ["QLORA_STUDIO_HOME"] = str(self.home)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._app_window is not None:
            self._app_window.destroy()

    def open(self) -> None:
        """Open the window, and wait until everything is there."""
        self._app_window = AppWindow()
        done: list[bool] = []
        self._app_window.completed.connect(lambda: done.append(True))
        self._app_window.show()
        self.wait(lambda: done)

    @property
    def window(self) -> MainWindow:
        """The window."""
        assert self._app_window is not None
        return self._app_window.window

    @property
    def studio(self) -> Studio:
        """What stands behind it."""
        assert self._app_window is not None and self._app_window.studio is not None
        return self._app_window.studio

    @property
    def actions(self) -> Any:
        """The window's actions, with palette and sheet of keys."""
        assert self._app_window is not None
        return self._app_window.actions

    def show_card(self, name: str) -> None:
        """Have a card that is not here, by its name in `recorded_cards`."""
        self.studio.gpu.stop()
        self.rest()  # what the real one sampled before may still be on its way
        self.studio.gpu.samples.clear()
        for sample in recorded_cards()[name]:
            self.studio.gpu.add(sample)
        self.rest()

    def page(self, kind: type[P]) -> P:
        """Return a page."""
        page = self.window.pages[kind.name]
        assert isinstance(page, kind)
        return page

    def show(self, kind: type[P]) -> P:
        """Bring a page to the front."""
        self.window.show_page(kind.name)
        self.rest()
        return self.page(kind)

    def shoot(self, name: str, *, end: bool = False) -> None:
        """Picture the window as it is now, in every theme and size; at the `end` of its page with that."""
        if not self.looks.wants(name):
            return
        for theme in self.looks.themes:
            apply_theme(self.app, _THEMES[theme])
            for size in self.looks.sizes:
                width, height = size.split("x")
                self.window.resize(int(width), int(height))
                self.rest()
                self._scroll(to_end=end)
                self._take(name, theme, size)

    def dialog(self, name: str, ask: Callable[[], object]) -> None:
        """Picture what comes up when something asks, and leave it by Esc."""
        if not self.looks.wants(name):
            return

        def look() -> None:
            dialog = QApplication.activeModalWidget()
            if dialog is None:
                QTimer.singleShot(20, look)
                return
            self.shoot(name)
            QTest.keyClick(dialog, Qt.Key.Key_Escape)

        QTimer.singleShot(50, look)
        ask()
        self.wait(lambda: QApplication.activeModalWidget() is None)

    def wait(self, condition: Callable[[], object], seconds: float = _WAIT_SECONDS) -> None:
        """Let the window live until something holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("The window did not come to rest.")
            self.app.processEvents()
            time.sleep(0.004)

    def rest(self, seconds: float = _SETTLE_SECONDS) -> None:
        """Let the window live until it has drawn what came."""
        until = time.monotonic() + seconds
        plots = self.window.current_page().findChildren(PlotCard)
        self.wait(lambda: time.monotonic() > until and all(p.is_plot_ready() for p in plots if p.isVisible()), 20)

    def _lasting_faults(self) -> list[str]:
        """Return the faults that are still there once a layout that is on its way must have been done."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (faults := list(layout_faults(self.window))) and time.monotonic() < deadline:
            self.rest(0.02)
        return faults

    def _scroll(self, *, to_end: bool) -> None:
        for area in self.window.current_page().findChildren(ScrollArea):
            if area.isVisible():
                area.verticalScrollBar().setValue(area.verticalScrollBar().maximum() if to_end else 0)
        self.rest(0.02)

    def _take(self, name: str, theme: str, size: str) -> None:
        self.looks.faults += [f"{name} {theme} {size}: {fault}" for fault in self._lasting_faults()]
        if self.looks.place is None:
            return
        path = self.looks.place / f"{name}-{theme}-{size}.png"
        _picture(self.window).save(str(path))
        self.looks.taken.setdefault(f"{theme}-{size}", []).append(path)


def _picture(window: QWidget) -> QImage:
    """Return the window with what has come up over it: menus, dialogs, tips."""
    image = window.grab().toImage()
    others = [w for w in QApplication.topLevelWidgets() if w is not window and w.isVisible()]
    for other in others:
        painter = QPainter(image)
        at = other.mapToGlobal(QPoint()) - window.mapToGlobal(QPoint())
        if other.isModal():  # a desktop puts it in the middle
            at = QPoint((window.width() - other.width()) // 2, (window.height() - other.height()) // 3)
        painter.drawPixmap(at, other.grab())
        painter.end()
    return image
