"""The card with the curves of a run: metrics to choose, over what they are drawn, smoothing, the table behind them.

They are drawn anew when something came and the card is seen, at most once a second: a drawing takes the processor as
long as a hundred steps that are only counted. How it is saved: `curve_files`.
"""

from collections.abc import Iterator

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QStackedWidget, QWidget

from qlora_studio.core.run.metric import METRICS
from qlora_studio.core.run.metric_history import Floats, MetricHistory
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say
from qlora_studio.ui.curves.linked_plots import LinkedPlots
from qlora_studio.ui.curves.smoothing import MovingAverage
from qlora_studio.ui.kit.layouts import FlowRow
from qlora_studio.ui.kit.menus import ChoiceButton
from qlora_studio.ui.kit.tables import Table, TableModel
from qlora_studio.ui.kit.widgets import Button, Card, begun, row
from qlora_studio.ui.run.curve_files import SaveButton
from qlora_studio.ui.run.marks import annotations
from qlora_studio.ui.run.metric_plots import STEP, X_TITLES, Source, is_known, metric_plots
from qlora_studio.ui.run.table import MetricRows, metric_columns
from qlora_studio.ui.run.view_button import USUAL_SMOOTHING, ViewButton

_PAUSE_MILLISECONDS, _MORE_MILLISECONDS = 1000, 200  # after a drawing, and for each further plot in it
ALL = "all"
_GAP, _MARGINS = 8, 2 * 16  # pixels between metrics and tools, and beside them


class PlotCard(Card):
    """Shows the history of a run.

    Signals:
        failed: a StudioError, where a file could not be saved.
    """

    failed = Signal(object)

    def __init__(self, *, at_once: bool = True) -> None:
        """Make the card; not `at_once`, its `steps` are left to the caller, and nothing is asked of it before."""
        super().__init__()
        self.steps = begun(self._made(), at_once=at_once)

    def _made(self) -> Iterator[None]:
        self._source = Source(MetricHistory(), RunState())
        self._shown = next(iter(METRICS))
        self._view = ViewButton()
        self._set_weight(USUAL_SMOOTHING)
        self._loss_average = MovingAverage()
        self._dirty = True
        self._pause = QTimer(self)  # after a drawing
        self._pause.setSingleShot(True)
        self._pause.timeout.connect(self._draw_what_came)
        yield
        self._plots = LinkedPlots(say("Curves of the run; the table button shows their numbers"))
        self._model = TableModel(metric_columns())
        self._table = Table(self._model, name=say("Metrics of each step"))
        yield
        yield from self._build()

    def render_history(
        self, history: MetricHistory, checkpoints: tuple[int, ...], state: RunState, name: str = ""
    ) -> None:
        """Show a history, and what the state tells beside it: epochs, the end, what happened on the way."""
        if history is not self._source.history:
            self._plots.follow()
        self._save.set_name(name)
        self._source = Source(history, state, checkpoints, self._view.over)
        self._dirty = True
        if not self._pause.isActive():
            self._draw_what_came()

    def smoothed_loss(self) -> Floats:
        """Return the moving average of the training loss, always the same one, however smooth the curves are drawn."""
        return self._loss_average.of(self._source.history.steps["loss"])

    def is_plot_ready(self) -> bool:
        """Return whether all that came is drawn."""
        return not self._dirty

    def show_metric(self, key: str) -> None:
        """Show another metric, or ALL of them."""
        self._shown = key
        self._tabs[key].setChecked(True)
        self._metric.choose(key)
        self._render_tools()
        self._redraw_now()

    def showEvent(self, event: QShowEvent) -> None:
        """Draw what came while hidden."""
        super().showEvent(event)
        self._draw_what_came()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Choose between metrics beside each other and in a menu."""
        super().resizeEvent(event)
        self._arrange()

    def rows(self, *, all_of_them: bool = True) -> MetricRows:
        """Return the numbers behind the curves: of the whole run, or of what is zoomed to."""
        source, between = self._source, None
        if not all_of_them and self._view.over == STEP:
            between = self._plots.shown_x()
        return MetricRows(source.history, annotations(source.state, source.history), between)

    def _draw_what_came(self) -> None:
        if self._dirty and self.isVisible():
            self._redraw()

    def _redraw(self) -> None:
        plots = len(METRICS) if self._shown == ALL else 1
        self._pause.start(_PAUSE_MILLISECONDS + _MORE_MILLISECONDS * (plots - 1))
        if self._table_button.isChecked():
            self._model.set_rows(self.rows(all_of_them=False))
        else:
            keys = tuple(METRICS) if self._shown == ALL else (self._shown,)
            self._plots.show_plots(metric_plots(keys, self._source, self._averages, log=self._view.is_log()))
        self._dirty = False

    def _redraw_now(self) -> None:
        self._dirty = True
        self._draw_what_came()

    def _set_weight(self, weight: float) -> None:
        self._averages = {key: MovingAverage(weight) for key in METRICS}

    def _on_table_toggled(self, on: bool) -> None:
        self._redraw_now()
        self._stack.setCurrentWidget(self._table if on else self._plots)

    def _on_smoothing_chosen(self, weight: float) -> None:
        self._set_weight(weight)
        self._redraw_now()

    def _on_over_chosen(self, over: str) -> None:
        self._source = Source(self._source.history, self._source.state, self._source.checkpoints, over)
        self._plots.follow()
        self._redraw_now()

    def _on_follow_clicked(self, on: bool) -> None:
        if on:
            self._plots.follow()
        else:
            self._plots.hold()

    def _on_view_chosen(self) -> None:
        self._follow.setChecked(self._plots.is_following())

    def _offer_places(self) -> None:
        """Offer to draw over what the run told: old runs told less."""
        self._view.offer({key for key in X_TITLES if is_known(self._source.history, key)})

    def _render_tools(self) -> None:
        shown = tuple(METRICS.values()) if self._shown == ALL else (METRICS[self._shown],)
        is_smooth, is_loss = any(metric.smooth for metric in shown), any(metric.loss for metric in shown)
        self._view.render_tools(smooth=is_smooth, log=is_loss)

    def _build(self) -> Iterator[None]:
        self._tabs_row, self._tools = FlowRow(spacing=4), QWidget()
        head = row(spacing=_GAP)
        self.body.addLayout(head)
        self._build_tabs(self._tabs_row)
        head.addWidget(self._tabs_row)
        head.addWidget(self._metric)
        head.addStretch(1)
        yield
        self._build_tools(row(self._tools, spacing=0))
        head.addWidget(self._tools)
        yield
        self._stack = QStackedWidget()
        self._stack.addWidget(self._plots)
        self._stack.addWidget(self._table)
        self.body.addWidget(self._stack, 1)
        self._render_tools()
        self._arrange()

    def _arrange(self) -> None:
        """Have one row in any width: where the metrics have no room beside each other, they are in a menu."""
        needed = self._tabs_row.sizeHint().width() + self._tools.sizeHint().width() + _GAP + _MARGINS
        wide = self.width() >= needed
        self._tabs_row.setVisible(wide)
        self._metric.setVisible(not wide)

    def _build_tabs(self, place: FlowRow) -> None:
        group = QButtonGroup(self)
        self._tabs: dict[str, Button] = {}
        titles = {key: metric.title for key, metric in METRICS.items()} | {ALL: say("All")}
        for key, title in titles.items():
            tab = self._tabs[key] = Button(title, "pill", checkable=True)
            group.addButton(tab)
            tab.clicked.connect(lambda _=False, key=key: self.show_metric(key))
            place.add(tab)
        self._tabs[self._shown].setChecked(True)
        self._metric = ChoiceButton(str, titles, tip=say("Which metric is shown"))
        self._metric.chosen.connect(self.show_metric)

    def _build_tools(self, place: QHBoxLayout) -> None:
        self._follow = Button(
            say("follow"),
            "quiet",
            tip=say("Show all of it as it comes. Zoom by dragging; with Shift, drag to move along"),
            checkable=True,
        )
        self._follow.setChecked(True)
        self._follow.clicked.connect(self._on_follow_clicked)
        self._plots.view_chosen.connect(self._on_view_chosen)
        self._view.over_chosen.connect(self._on_over_chosen)
        self._view.opening.connect(self._offer_places)
        self._view.smoothing_chosen.connect(self._on_smoothing_chosen)
        self._view.scale_chosen.connect(lambda _log: self._redraw_now())
        self._table_button = Button(say("table"), "quiet", tip=say("Show the numbers"), checkable=True)
        self._table_button.toggled.connect(self._on_table_toggled)
        self._save = SaveButton(self._plots, self.rows)
        self._save.failed.connect(self.failed)
        for tool in (self._follow, self._view, self._table_button, self._save):
            place.addWidget(tool)
