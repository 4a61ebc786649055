"""Saving and copying curves: as a picture, as a drawing, as numbers. Files are written whole or not at all."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QPoint, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QMenu

from qlora_studio.core.words import say
from qlora_studio.storage.durable import write_atomically
from qlora_studio.ui.curves.linked_plots import LinkedPlots, png_bytes
from qlora_studio.ui.kit.desktop.save_dialog import ask_save_path
from qlora_studio.ui.kit.text import show_tip
from qlora_studio.ui.kit.widgets import Button
from qlora_studio.ui.run.table import MetricRows
from qlora_studio.ui.state.background import Background

_TOLD_MILLISECONDS = 4000


class SaveButton(Button):
    """Offers to save or copy plots and the rows behind them.

    Signals:
        failed: the StudioError of what could not be saved.
    """

    failed = Signal(object)

    def __init__(self, plots: LinkedPlots, rows: Callable[[], MetricRows]) -> None:
        super().__init__(say("save"), "quiet", tip=say("Save or copy curves and numbers"))
        self._plots, self._rows, self._name = plots, rows, ""
        self._writing, self._copying = Background(self), Background(self)
        self._writing.answered.connect(lambda path: self._tell(say("Saved as {name}", name=path.name)))
        self._writing.failed.connect(self.failed)
        self._copying.answered.connect(self._on_text_made)
        menu = QMenu(self)
        menu.addAction(say("Save a picture (PNG) …"), lambda: self._ask(say("PNG picture"), "png", self._picture))
        menu.addAction(say("Save a drawing (SVG) …"), lambda: self._ask(say("SVG drawing"), "svg", self._drawing))
        menu.addAction(say("Save the numbers (CSV) …"), lambda: self._ask(say("Table"), "csv", self._numbers))
        menu.addSeparator()
        menu.addAction(say("Copy the picture"), self._copy_picture)
        menu.addAction(say("Copy the numbers"), lambda: self._copying.ask(self._rows().as_text, "\t"))
        self.setMenu(menu)
        self.setProperty("menu", "true")

    def set_name(self, name: str) -> None:
        """Name the run: files are called after it."""
        self._name = name

    def _ask(self, kind: str, suffix: str, content: Callable[[], Callable[[], bytes]]) -> None:
        name = f"{self._name or 'curves'}.{suffix}"
        ask_save_path(
            self, say("Save the curves"), name, f"{kind} (*.{suffix})", lambda path: self._write(path, content())
        )

    def _write(self, path: Path, content: Callable[[], bytes]) -> None:
        self._writing.ask(_written, path, content)

    def _picture(self) -> Callable[[], bytes]:
        picture = self._plots.picture(self._name)
        return lambda: png_bytes(picture)

    def _drawing(self) -> Callable[[], bytes]:
        drawing = self._plots.drawing(self._name)
        return lambda: drawing

    def _numbers(self) -> Callable[[], bytes]:
        rows = self._rows()
        return lambda: rows.as_text().encode()

    def _copy_picture(self) -> None:
        QGuiApplication.clipboard().setImage(self._plots.picture(self._name))
        self._tell(say("The picture is copied"))

    def _on_text_made(self, text: str) -> None:
        QGuiApplication.clipboard().setText(text)
        self._tell(say("The numbers are copied"))

    def _tell(self, words: str) -> None:
        show_tip(self.mapToGlobal(QPoint(0, self.height())), words, self, _TOLD_MILLISECONDS)


def _written(path: Path, content: Callable[[], bytes]) -> Path:
    write_atomically(path, content())
    return path
