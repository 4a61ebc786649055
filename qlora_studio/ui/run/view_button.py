"""The button for how curves are drawn: over what, how smooth, on which scale."""

from collections.abc import Collection

from PySide6.QtCore import Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QMenu

from qlora_studio.core.words import say
from qlora_studio.ui.kit.widgets import Button
from qlora_studio.ui.run.metric_plots import STEP, X_TITLES

USUAL_SMOOTHING = 0.9
_SMOOTHINGS = (0.0, 0.6, USUAL_SMOOTHING, 0.95, 0.99, 0.999)


class ViewButton(Button):
    """Offers it in one menu.

    Signals:
        opening: the menu is about to be shown.
        over_chosen: over what the curves are to be drawn, a key of X_TITLES.
        smoothing_chosen: how much of the average before each step keeps.
        scale_chosen: logarithmic, or not.
    """

    opening = Signal()
    over_chosen = Signal(str)
    smoothing_chosen = Signal(float)
    scale_chosen = Signal(bool)

    def __init__(self) -> None:
        super().__init__(say("view"), "quiet", tip=say("Over what the curves are drawn, how smooth, on which scale"))
        self.over = STEP
        menu = QMenu(self)
        menu.aboutToShow.connect(self.opening)
        self._places = self._choices(menu, {key: say("over {place}", place=title) for key, title in X_TITLES.items()})
        for key, action in self._places.items():
            action.triggered.connect(lambda _=False, key=key: self._choose_over(key))
        menu.addSeparator()
        words = {f"{weight:g}": f"{weight:g}" if weight else say("off") for weight in _SMOOTHINGS}
        self._smoothings = self._choices(
            menu, {key: say("smoothing {weight}", weight=word) for key, word in words.items()}
        )
        for key, action in self._smoothings.items():
            action.triggered.connect(lambda _=False, key=key: self.smoothing_chosen.emit(float(key)))
        self._smoothings[f"{USUAL_SMOOTHING:g}"].setChecked(True)
        menu.addSeparator()
        self._log = menu.addAction(say("logarithmic scale"))
        self._log.setCheckable(True)
        self._log.toggled.connect(self.scale_chosen)
        self.setMenu(menu)
        self.setProperty("menu", "true")

    def is_log(self) -> bool:
        """Whether the scale is logarithmic, where a metric can have one."""
        return self._log.isChecked()

    def offer(self, places: Collection[str]) -> None:
        """Offer to draw over these alone."""
        for key, action in self._places.items():
            action.setEnabled(key in places)

    def render_tools(self, *, smooth: bool, log: bool) -> None:
        """Show what makes sense for the metrics that are shown."""
        for action in self._smoothings.values():
            action.setVisible(smooth)
        self._log.setVisible(log)

    def _choices(self, menu: QMenu, titles: dict[str, str]) -> dict[str, QAction]:
        """Add entries of which one is chosen, at first the first."""
        group = QActionGroup(self)
        actions = {key: menu.addAction(title) for key, title in titles.items()}
        for action in actions.values():
            action.setCheckable(True)
            group.addAction(action)
        next(iter(actions.values())).setChecked(True)
        return actions

    def _choose_over(self, key: str) -> None:
        self.over = key
        self.over_chosen.emit(key)
