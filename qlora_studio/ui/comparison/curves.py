"""The curves of several runs over each other: one metric at a time, over steps, tokens or hours."""

from collections.abc import Sequence

from PySide6.QtWidgets import QButtonGroup

from qlora_studio.core.comparison.run_record import RunRecord
from qlora_studio.core.words import say
from qlora_studio.ui.comparison.view import AXES, curve_of, metric_titles, unit_of
from qlora_studio.ui.curves.curve import Curve, Plot, look
from qlora_studio.ui.curves.linked_plots import LinkedPlots
from qlora_studio.ui.kit.layouts import FlowRow
from qlora_studio.ui.kit.menus import ChoiceButton
from qlora_studio.ui.kit.widgets import Button, Card, row

_SMOOTH_TIP = say("Draw the mean of the steps around each point: of as many before it as after, a fiftieth of the run")


class CurvesCard(Card):
    """Shows a metric of each run."""

    def __init__(self) -> None:
        super().__init__()
        self._names: tuple[str, ...] = ()
        self._records: tuple[RunRecord, ...] = ()
        self._metric = ""
        self.tabs: dict[str, Button] = {}
        self._group = QButtonGroup(self)
        self._places = FlowRow(spacing=6)
        self.axis = ChoiceButton(
            lambda words: say("over {words}", words=words), AXES, tip=say("Over what the curves are drawn")
        )
        self.axis.chosen.connect(lambda _axis: self._render())
        self.smooth = Button(say("smooth"), "pill", checkable=True, tip=_SMOOTH_TIP)
        self.smooth.setChecked(True)
        self.smooth.toggled.connect(lambda _on: self._render())
        self.plots = LinkedPlots(say("Curves of the compared runs"))
        tools = row(spacing=8)
        tools.addWidget(self._places, 1)
        tools.addWidget(self.smooth)
        tools.addWidget(self.axis)
        self.body.addLayout(tools)
        self.body.addWidget(self.plots, 1)

    def show_records(self, names: Sequence[str], records: Sequence[RunRecord]) -> None:
        """Show the curves of runs of these names."""
        self._names, self._records = tuple(names), tuple(records)
        titles = metric_titles(records)
        for key, words in titles.items():
            if key not in self.tabs:
                self._add_tab(key, words)
        for key, tab in self.tabs.items():
            tab.setVisible(key in titles)
        if self._metric not in titles:
            self.show_metric(next(iter(titles), ""))
        else:
            self._render()

    def show_metric(self, key: str) -> None:
        """Show another metric."""
        self._metric = key
        if key in self.tabs:
            self.tabs[key].setChecked(True)
        self._render()

    def _add_tab(self, key: str, words: str) -> None:
        tab = self.tabs[key] = Button(words, "pill", checkable=True)
        self._group.addButton(tab)
        self._places.add(tab)
        tab.clicked.connect(lambda: self.show_metric(key))

    def _render(self) -> None:
        axis = self.axis.value()
        drawn = [
            self._drawn(index, name, record)
            for index, (name, record) in enumerate(zip(self._names, self._records, strict=True))
        ]
        curves = tuple(curve for curve in drawn if curve is not None)
        self.smooth.setVisible(any(self._is_smooth(record) for record in self._records))
        title = metric_titles(self._records).get(self._metric, "")
        plot = Plot(title, curves, unit=unit_of(self._metric), x_title=AXES[axis], whole=axis != "hours")
        self.plots.show_plots([plot])

    def _drawn(self, index: int, name: str, record: RunRecord) -> Curve | None:
        curve = curve_of(record, self._metric)
        if curve is None:
            return None
        token, line = look(index)
        smooth = self.smooth.isChecked() and curve.smooth is not None
        values = curve.smooth if smooth and curve.smooth is not None else curve.raw
        return Curve(name, curve.x(self.axis.value()), values, token, line)

    def _is_smooth(self, record: RunRecord) -> bool:
        curve = curve_of(record, self._metric)
        return curve is not None and curve.smooth is not None
