"""What a sequence does to the window, and what the window says afterwards; both by its widgets alone."""

import random
import re
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QWidget

from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.data.page import DataPage
from qlora_studio.ui.kit.charts import StackedBar
from qlora_studio.ui.kit.fields import ComboBox
from qlora_studio.ui.kit.widgets import Chip, StatTile
from qlora_studio.ui.model.page import ModelPage
from qlora_studio.ui.settings.page import SettingsPage
from qlora_studio.ui.training.page import TrainingPage
from qlora_studio.ui.window.rail import RailButton
from tests.ui.window.test_drops import drop_at, files

_CONTROL = Qt.KeyboardModifier.ControlModifier
_NUMBERS = {
    "training.max_length": ("64", "256", "2048"),
    "lora.rank": ("4", "16", "64"),
    "training.batch_size": ("1", "2", "8"),
    "training.gradient_accumulation": ("1", "4"),
}


class Hand:
    """Acts on a window by dice."""

    def __init__(self, app_window: AppWindow, models: list[Path], data: list[Path], seed: int) -> None:
        self.window, self._dice = app_window.window, random.Random(seed)
        self._models, self._data = models, data
        self.taken = ""
        self.acts: list[Callable[[], str]] = [
            *([self._number] * 4),
            *([self._preset, self._undo, self._redo, self._page, self._model, self._card] * 2),
            *([self._dataset] * 2 if data else []),
            *(self._theme, self._offline),
        ]

    def act(self) -> str:
        """Do something; return what, in words. `taken` is the preset that was taken by it, if any."""
        self.taken = ""
        return self._dice.choice(self.acts)()

    def page(self, kind: type[QWidget]) -> QWidget:
        """Return a page, at the front."""
        page = next(page for page in self.window.pages.values() if isinstance(page, kind))
        self.window.show_page(page.name)
        return page

    def _number(self) -> str:
        page = self.page(TrainingPage)
        path = self._dice.choice([*_NUMBERS])
        value = self._dice.choice(_NUMBERS[path])
        field = page.form.line(path).field  # type: ignore[attr-defined]
        field.setFocus()
        QTest.keyClick(field, Qt.Key.Key_A, _CONTROL)
        QTest.keyClicks(field, value)
        QTest.keyClick(field, Qt.Key.Key_Return)
        return f"{path} {value}"

    def _preset(self) -> str:
        page = self.page(TrainingPage)
        assert isinstance(page, TrainingPage)
        box = page.presets
        number = self._dice.choice([n for n in range(1, box.count()) if box.itemData(n) != "starter"])
        words = box.itemText(number)
        self._choose(box, number)
        take = self._dice.random() < 0.7 and page.takeover.take.isVisible()
        button = page.takeover.take if take else page.takeover.close_button
        changes = page.takeover.take.isVisible()
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self.taken = words if take or not changes else ""
        return f"preset {words!r}, {'taken' if take else 'left'}"

    def _undo(self) -> str:
        self.window.rail.setFocus()
        QTest.keyClick(self.window, Qt.Key.Key_Z, _CONTROL)
        return "undo"

    def _redo(self) -> str:
        self.window.rail.setFocus()
        QTest.keyClick(self.window, Qt.Key.Key_Z, _CONTROL | Qt.KeyboardModifier.ShiftModifier)
        return "redo"

    def _page(self) -> str:
        button = self._dice.choice(self.window.rail.findChildren(RailButton))
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        return f"page {button.text()}"

    def _model(self) -> str:
        page = self.page(ModelPage)
        assert isinstance(page, ModelPage)
        model = self._dice.choice([None, *self._models])
        if model is None:
            QTest.mouseClick(page.source.kinds["starter"], Qt.MouseButton.LeftButton)
            QTest.mouseClick(page.source.use_starter, Qt.MouseButton.LeftButton)
            return "the starter model"
        QTest.mouseClick(page.source.kinds["folder"], Qt.MouseButton.LeftButton)
        line = page.source.folder.line
        line.setFocus()
        QTest.keyClick(line, Qt.Key.Key_A, _CONTROL)
        QTest.keyClicks(line, str(model))
        QTest.keyClick(line, Qt.Key.Key_Return)
        return f"model {model}"

    def _dataset(self) -> str:
        file = self._dice.choice(self._data)
        self.page(DataPage)
        drop_at(self.window.rail, files(file))
        return f"data {file}"

    def _card(self) -> str:
        return f"card {self._setting('assumed')!r}"

    def _theme(self) -> str:
        return f"theme {self._setting('theme')!r}"

    def _setting(self, name: str) -> str:
        box: ComboBox = getattr(self.page(SettingsPage), name)
        number = self._dice.randrange(min(6, box.count()))
        self._choose(box, number)
        return box.itemText(number)

    def _offline(self) -> str:
        page = self.page(SettingsPage)
        assert isinstance(page, SettingsPage)
        QTest.mouseClick(page.offline, Qt.MouseButton.LeftButton)
        return "offline"

    def _choose(self, box: ComboBox, number: int) -> None:
        box.setCurrentIndex(number)
        box.activated.emit(number)


def said(app_window: AppWindow) -> dict[str, object]:
    """Return what the window says, by what it is said of."""
    window = app_window.window
    training = next(page for page in window.pages.values() if isinstance(page, TrainingPage))
    settings = next(page for page in window.pages.values() if isinstance(page, SettingsPage))
    tiles = {label[0]: label[1] for label in map(_texts, training.findChildren(StatTile))}
    steps = {
        button.text(): button.accessibleDescription().partition(", ")[2].partition(":")[0]
        for button in window.rail.findChildren(RailButton)
        if button.accessibleDescription()
    }
    is_first = training.presets.currentIndex() == 0
    return {
        "preset": "" if is_first else training.presets.currentText(),
        **{f"tile {name}": tiles[name] for name in ("Effective batch", "Tokens to learn from")},
        **{f"step {name}": steps[name] for name in ("Model", "Data", "Training")},
        **{f"memory {name}": size for name, size in _estimate(app_window.panel).items()},
        "dark": QApplication.palette().window().color().lightness() < 128,
        **({"offline": settings.offline.isChecked()} if settings.isVisible() else {}),
    }


def times_read(page: QWidget, words: str) -> int:
    """Return how many labels to be seen have these words."""
    window = page.window()
    return sum(words in label.text() for label in window.findChildren(QLabel) if label.isVisible())


def _estimate(panel: QWidget) -> dict[str, str]:
    bar = next(bar for bar in panel.findChildren(StackedBar) if bar.accessibleName() == "Estimate")
    whole = re.fullmatch(r"Estimate[^:]*: (?P<all>≈ \S+ \w+) \. (?P<parts>.*)", bar.accessibleDescription())
    if whole is None:
        return {}
    parts = (part.rsplit(" ", 2) for part in whole["parts"].split(", "))
    chips = [chip for chip in (bar.parentWidget() or panel).findChildren(Chip) if chip.isVisible()]
    fit = chips[0].text() if chips else ""
    return {"all": whole["all"], "fit": fit, **{name: f"{size} {unit}" for name, size, unit in parts}}


def _texts(tile: QWidget) -> list[str]:
    return [label.text() for label in tile.findChildren(QLabel)]
