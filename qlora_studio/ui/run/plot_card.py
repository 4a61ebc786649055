"""The card with the curves of a run: a metric to choose, its legend, smoothing, the table behind it, and copy.

The plot itself needs pyqtgraph, which takes a third of a second to import. That is done in another thread once the card
is first shown; until then the card is empty. One timer redraws at most ten times a second, when dirty and visible.
"""

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import QTimer
from PySide6.QtGui import QActionGroup, QGuiApplication, QHideEvent, QShowEvent
from PySide6.QtWidgets import QButtonGroup, QMenu, QStackedWidget, QWidget

from qlora_studio.core.run.metric import METRICS
from qlora_studio.core.run.metric_history import Floats, MetricHistory, Series
from qlora_studio.core.run.run_state import RunState
from qlora_studio.ui.kit.charts import Legend
from qlora_studio.ui.kit.tables import Table, TableModel
from qlora_studio.ui.kit.text import ElidedLabel, Label
from qlora_studio.ui.kit.widgets import Button, Card, column, row
from qlora_studio.ui.run.marks import annotations, curve_marks
from qlora_studio.ui.run.smoothing import MovingAverage
from qlora_studio.ui.run.table import MetricRows, metric_columns, value_text
from qlora_studio.ui.state.background import Background

if TYPE_CHECKING:
    from qlora_studio.ui.run.plot import MetricPlot, PlotData

REDRAW_MILLISECONDS = 100
PLOT_HEIGHT = 236
_SMOOTHINGS = (0.0, 0.6, 0.9, 0.95, 0.99)
_MAX_EPOCH_LINES = 20
_LOSS_MARKS = (("line", "weights", "train"), ("dash", "logits", "evaluation"), ("triangle", "ok", "checkpoint"))
_EVENT_MARKS = {"spike": ("diamond", "bad", "spike"), "change": ("dash-dot", "warn", "what changed")}


class PlotCard(Card):
    """Shows the history of a run."""

    def __init__(self) -> None:
        super().__init__()
        self._history = MetricHistory()
        self._checkpoints: tuple[int, ...] = ()
        self._state = RunState()
        self._metric = next(iter(METRICS.values()))
        self._average = MovingAverage()
        self._dirty = False
        self._plot: MetricPlot | None = None
        self._data: PlotData | None = None
        self._import = Background(self)
        self._import.answered.connect(self._on_import_answered)
        self._timer = QTimer(self)
        self._timer.setInterval(REDRAW_MILLISECONDS)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._redraw)
        self._stack = QStackedWidget()
        self._model = TableModel(metric_columns())
        self._table = Table(self._model, name="Metrics of each step")
        self._build()

    def render_history(self, history: MetricHistory, checkpoints: tuple[int, ...], state: RunState) -> None:
        """Show a history, and what the state tells beside it: epochs, the end, what happened on the way."""
        self._history, self._checkpoints, self._state = history, checkpoints, state
        self._dirty = True
        if self.isVisible() and not self._timer.isActive():
            self._timer.start()

    def smoothed_loss(self) -> Floats:
        """Return the moving average of the training loss, as it is drawn."""
        return self._loss_average.of(self._history.steps["loss"])

    def is_plot_ready(self) -> bool:
        """Return whether the plot has been built and drawn."""
        return self._plot is not None and not self._dirty

    def close_plot(self) -> None:
        """Take the plot apart. WORKAROUND: a scene of pyqtgraph that the mouse was over crashes when Qt destroys it."""
        plot, self._plot = self._plot, None
        self._timer.stop()
        if plot is not None:
            plot.scene().hoverItems.clear()
            plot.close()

    def show_metric(self, key: str) -> None:
        """Show another metric."""
        self._metric = METRICS[key]
        self._tabs[key].setChecked(True)
        self._average = self._loss_average if self._metric.loss else MovingAverage(self._average.weight)
        self._render_legend()
        self._redraw_now()

    def showEvent(self, event: QShowEvent) -> None:
        """Fetch pyqtgraph when first shown, draw what came while hidden."""
        super().showEvent(event)
        if self._plot is None:
            self._import.ask(importlib.import_module, "qlora_studio.ui.run.plot")
        elif self._dirty:
            self._timer.start()

    def hideEvent(self, event: QHideEvent) -> None:
        """Stop drawing."""
        super().hideEvent(event)
        self._timer.stop()

    def _redraw(self) -> None:
        if self._table_button.isChecked():
            self._model.set_rows(self._rows())
        elif self._plot is not None:
            self._data = self._plot_data()
            self._render_event_legend()
            self._plot.show_data(self._data, log=self._log_button.isChecked() and self._metric.loss)
        self._dirty = self._plot is None

    def _redraw_now(self) -> None:
        self._dirty = True
        if self.isVisible():
            self._redraw()

    def _plot_data(self) -> "PlotData":
        from qlora_studio.ui.run.plot import PlotData

        metric = self._metric
        series = self._series()
        return PlotData(
            x=series.x,
            raw=series.y / metric.scale if metric.scale != 1.0 else series.y,
            smooth=self._average.of(series) if metric.smooth and self._average.weight else None,
            evaluation_x=self._history.evaluation.x if metric.loss else None,
            evaluation_y=self._history.evaluation.y if metric.loss else None,
            checkpoints=self._checkpoints if metric.loss else (),
            epochs=self._epochs(series),
            end=float(self._state.total_steps),
            token=metric.color,
            marks=tuple((mark.step, mark.label) for mark in curve_marks(self._state)),
            spikes=tuple((spike.step, spike.loss) for spike in self._history.spikes) if metric.loss else (),
        )

    def _series(self) -> Series:
        rather = self._history.steps.get(self._metric.rather)
        return rather if rather and rather.y.max() > 0 else self._history.steps[self._metric.field]

    def _epochs(self, series: Series) -> tuple[tuple[int, float], ...]:
        step = self._state.last_step
        steps = self._state.step / step.epoch if step is not None and step.epoch else 0.0
        if steps < 1 or not len(series):
            return ()
        last = min(self._state.total_steps or series.x[-1], series.x[-1])
        count = int(last / steps + 1e-6)
        return tuple((k, k * steps) for k in range(1, count + 1)) if count <= _MAX_EPOCH_LINES else ()

    def _rows(self) -> MetricRows:
        return MetricRows(self._history, annotations(self._state, self._history))

    def _on_import_answered(self, module: Any) -> None:
        if self._plot is not None:
            return
        self._plot = module.MetricPlot("Plot of the chosen metric; the table button shows its numbers")
        self._plot.pointed.connect(self._on_plot_pointed)
        self._stack.insertWidget(0, self._plot)
        self._on_table_toggled(self._table_button.isChecked())

    def _on_plot_pointed(self, step: int) -> None:
        data = self._data
        if data is None or step < 0 or not len(data.x):
            self._pointed.setText("")
            self._render_legend()
            return
        index = int(np.clip(np.searchsorted(data.x, step), 0, len(data.x) - 1))
        words = [f"step {int(data.x[index]):,}", f"{self._metric.title.lower()} {value_text(data.raw[index])}"]
        if data.smooth is not None:
            words.append(f"smoothed {value_text(data.smooth[index])}")
        text = " · ".join(words) + (f" {self._metric.unit}" if self._metric.unit else "")
        told = annotations(self._state, self._history).get(int(data.x[index]), "")
        self._pointed.setText(f"{text} · {told}" if told else text)
        self._legend.hide()

    def _on_table_toggled(self, on: bool) -> None:
        self._stack.setCurrentWidget(self._table if on or self._plot is None else self._plot)
        self._redraw_now()

    def _on_smoothing_chosen(self, weight: float) -> None:
        self._loss_average = MovingAverage(weight)
        self._average = self._loss_average if self._metric.loss else MovingAverage(weight)
        self._smoothing_button.setText(f"smoothing {weight:g}" if weight else "no smoothing")
        self._redraw_now()

    def _on_copy_clicked(self) -> None:
        self._model.set_rows(self._rows())
        QGuiApplication.clipboard().setText(self._table.as_text())

    def _render_legend(self) -> None:
        metric = self._metric
        unit = f" in {metric.unit}" if metric.unit else ""
        plain = (("line", metric.color, metric.title.lower() + unit),)
        self._legend.show_marks(_LOSS_MARKS if metric.loss else plain)
        self._legend.show()
        self._render_event_legend()
        self._log_button.setVisible(self._metric.loss)
        self._smoothing_button.setVisible(self._metric.smooth)

    def _render_event_legend(self) -> None:
        told = [_EVENT_MARKS["spike"]] if self._metric.loss and self._history.spikes else []
        told += [_EVENT_MARKS["change"]] if curve_marks(self._state) else []
        self._event_legend.show_marks(told)
        self._event_legend.setVisible(bool(told))

    def _build(self) -> None:
        self._loss_average = self._average
        self._tabs: dict[str, Button] = {}
        group = QButtonGroup(self)
        tabs = row(spacing=6)
        for key, metric in METRICS.items():
            tab = Button(metric.title, "pill", checkable=True)
            group.addButton(tab)
            tab.clicked.connect(lambda _=False, key=key: self.show_metric(key))
            self._tabs[key] = tab
            tabs.addWidget(tab)
        tabs.addStretch(1)
        next(iter(self._tabs.values())).setChecked(True)
        self._legend, self._event_legend = Legend(), Legend()
        self._pointed = ElidedLabel("", "caption")
        self._smoothing_button = Button(f"smoothing {self._average.weight:g}", "quiet", tip="How smooth the line is")
        self._smoothing_button.clicked.connect(self._show_smoothings)
        self._log_button = Button("log", "quiet", tip="Logarithmic scale", checkable=True)
        self._table_button = Button("table", "quiet", tip="Show the numbers", checkable=True)
        copy = Button("copy", "quiet", tip="Copy the numbers of every step")
        self._log_button.toggled.connect(lambda _on: self._redraw_now())
        self._table_button.toggled.connect(self._on_table_toggled)
        copy.clicked.connect(self._on_copy_clicked)
        tools = row(spacing=2)
        tools.addWidget(self._legend)
        tools.addWidget(self._pointed, 1)
        for tool in (self._smoothing_button, self._log_button, self._table_button, copy):
            tools.addWidget(tool)
        self.body.addLayout(tabs)
        self.body.addLayout(tools)
        told = row()
        told.addWidget(self._event_legend)
        told.addStretch(1)
        self.body.addLayout(told)
        empty = QWidget()
        column(empty).addWidget(Label("", "muted"))
        self._stack.addWidget(empty)
        self._stack.addWidget(self._table)
        self._stack.setCurrentWidget(empty)
        self._stack.setMinimumHeight(PLOT_HEIGHT)
        self.body.addWidget(self._stack, 1)
        self._render_legend()

    def _show_smoothings(self) -> None:
        menu = QMenu(self)
        choices = QActionGroup(menu)
        for weight in _SMOOTHINGS:
            action = menu.addAction(f"{weight:g}" if weight else "none")
            action.setCheckable(True)
            action.setChecked(weight == self._average.weight)
            choices.addAction(action)
            action.triggered.connect(lambda _=False, weight=weight: self._on_smoothing_chosen(weight))
        menu.popup(self._smoothing_button.mapToGlobal(self._smoothing_button.rect().bottomLeft()))
