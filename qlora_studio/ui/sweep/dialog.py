"""The dialog of a sweep: settings with their values above, the runs that come of them below."""

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QWidget

from qlora_studio.core.comparison.sweep import Variation, swept
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import InvalidRunConfig, Problem
from qlora_studio.core.run.titles import datasets_title, model_title
from qlora_studio.core.words import say, say_count
from qlora_studio.ui.kit.layouts import dismiss
from qlora_studio.ui.kit.letters import give_letters
from qlora_studio.ui.kit.tables import Column, Table, TableModel
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button, PrimaryButton, column, row
from qlora_studio.ui.sweep.variation_line import VariationLine
from qlora_studio.ui.sweep.view import Forecast, remark, setting_choices, summary

_SIZE = (680, 560)
_MOST = 4  # settings at once
_BEGIN_WITH = ("lora.rank", "training.learning_rate")
_COLUMNS = (
    Column(say("Run"), lambda item: item.name, stretch=True),
    Column(say("Card memory"), lambda item: item.memory, right=True),
    Column(say("Fits"), lambda item: item.fit, tone=lambda item: item.tone),
    Column(say("Time"), lambda item: item.time, right=True),
)


class SweepDialog(QDialog):
    """Makes runs out of one.

    Signals:
        runs_changed: other runs come of what is written; their configs, none where something is wrong.
        queue_requested: put the runs into the queue; their configs.
    """

    runs_changed = Signal(tuple)
    queue_requested = Signal(tuple)

    def __init__(self, config: RunConfig, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._config = config
        self._configs: tuple[RunConfig, ...] = ()
        self.setWindowTitle(say("Run again over a few values"))
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(*_SIZE)
        self.lines: list[VariationLine] = []
        self.more = Button(say("Vary another setting"), "small")
        self.model = TableModel(_COLUMNS)
        self.table = Table(self.model, name=say("Runs to be made"))
        self.summary = Label("", "strong", wrap=True)
        self._remark = Label("", "muted", wrap=True)
        self._problem = Label("", wrap=True)
        self._problem.set_tone("bad")
        self.add_button = PrimaryButton(say("Add to the queue"))
        self.cancel_button = Button(say("Cancel"))
        self._place = column(spacing=10)
        self._build()
        self._add_line(_BEGIN_WITH[0])
        give_letters(self)

    def begin(self) -> None:
        """Tell which runs there would be, and come up."""
        self._take()
        self.open()
        self._focus(self.lines[0])

    def render_forecasts(self, forecasts: Sequence[Forecast]) -> None:
        """Show the runs with what they will take."""
        self.model.set_rows(tuple(forecasts))
        self.summary.setText(summary(forecasts) if forecasts else say("No run yet."))

    def _take(self) -> None:
        """Make the configs anew, or say what is wrong."""
        variations: list[Variation] = []
        problems: list[Problem] = []
        for line in self.lines:
            try:
                variations.append(line.variation())
            except InvalidRunConfig as error:
                problems += error.problems
        try:
            self._configs = () if problems else swept(self._config, variations)
        except InvalidRunConfig as error:
            problems, self._configs = [*error.problems], ()
        self._show_problems(problems)
        self._remark.setText(remark(self._config, variations))
        self._remark.setVisible(bool(self._remark.text()))
        self.add_button.setEnabled(bool(self._configs))
        self.add_button.setText(
            say("Add {runs} to the queue", runs=say_count(len(self._configs), "{count:,} run", "{count:,} runs"))
            if self._configs
            else say("Add")
        )
        self.render_forecasts([Forecast(config.name) for config in self._configs])
        self.runs_changed.emit(self._configs)

    def _focus(self, line: VariationLine) -> None:
        line.values.setFocus(Qt.FocusReason.OtherFocusReason)
        line.values.selectAll()

    def _show_problems(self, problems: Sequence[Problem]) -> None:
        """Say each problem at its setting, those of none below all."""
        paths = {line.setting.value() for line in self.lines}
        for line in self.lines:
            line.show_problem("; ".join(item.message for item in problems if item.field == line.setting.value()))
        rest = [item.message for item in problems if item.field not in paths]
        self._problem.setText("\n".join(rest))
        self._problem.setVisible(bool(rest))

    def _add_line(self, path: str) -> None:
        line = VariationLine(self._config, path)
        line.changed.connect(self._take)
        line.removal_requested.connect(lambda: self._remove_line(line))
        self.lines.append(line)
        self._place.addWidget(line)
        self._show_lines()

    def _remove_line(self, line: VariationLine) -> None:
        self.lines.remove(line)
        dismiss(line)
        self._show_lines()
        self._take()

    def _show_lines(self) -> None:
        self.more.setEnabled(len(self.lines) < _MOST)
        for line in self.lines:
            line.remove.setVisible(len(self.lines) > 1)

    def _on_more_clicked(self) -> None:
        used = {line.setting.value() for line in self.lines}
        free = [path for path in (*_BEGIN_WITH, *setting_choices()) if path not in used]
        self._add_line(free[0])
        self._take()
        self._focus(self.lines[-1])

    def _build(self) -> None:
        box = column(self, margins=(20, 18, 20, 18), spacing=12)
        box.addWidget(Label(say("Run {name} again", name=self._config.name), "heading", wrap=True))
        facts = f"{model_title(self._config.model.source)} · {datasets_title(self._config)}"
        box.addWidget(
            Label(
                say("{facts}. Every combination of the values below is a run of its own.", facts=facts),
                "muted",
                wrap=True,
            )
        )
        box.addLayout(self._place)
        box.addWidget(self.more)
        box.addWidget(self._remark)
        box.addWidget(self._problem)
        box.addWidget(self.table, 1)
        box.addWidget(self.summary)
        buttons = row(spacing=12)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel_button)
        buttons.addWidget(self.add_button)
        box.addLayout(buttons)
        self.more.clicked.connect(self._on_more_clicked)
        self.cancel_button.clicked.connect(self.reject)
        self.add_button.clicked.connect(self._on_add_clicked)

    def _on_add_clicked(self) -> None:
        self.queue_requested.emit(self._configs)
        self.accept()
