"""The page where the dataset is chosen and looked through: what is seen here is exactly what is trained."""

from collections.abc import Iterator, Sequence

from PySide6.QtCore import Qt, Signal

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import DataReport, LengthStatistics, RowPreview, SourceReport, SourcesReport
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.activity import Activity, Phase
from qlora_studio.core.run.events import Failed
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.run.titles import datasets_title
from qlora_studio.core.words import say
from qlora_studio.ui.data.column_mapping import ColumnMapping
from qlora_studio.ui.data.datasets import SourcesCard
from qlora_studio.ui.data.datasets_view import added, fresh
from qlora_studio.ui.data.lengths import LengthsCard
from qlora_studio.ui.data.rows import RowsCard
from qlora_studio.ui.data.source import DataSource
from qlora_studio.ui.data.view import data_summary, reading_text
from qlora_studio.ui.data.xray import XrayCard
from qlora_studio.ui.kit.charts import ProgressLine
from qlora_studio.ui.kit.check_list import CheckList
from qlora_studio.ui.kit.layouts import SideBySide
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button, Card, Notice, PrimaryButton, row
from qlora_studio.ui.readiness.steps import CHOOSE_MODEL_FIRST
from qlora_studio.ui.window.page import Page

_WHAT_FIRST = say("What should it learn from? Rows of chats, instructions or text.")


class DataPage(Page):
    """Choose a dataset; see its rows, tokens, checks and lengths.

    Signals:
        starter_requested: the dataset that comes with the program.
        settings_requested: values of the draft by path; so a dataset is chosen, too.
        row_requested: X-ray of a row: longest, shortest, random, or its number from 0.
        reading_requested: look the rows through after all.
        stop_requested: stop that.
        save_requested: write the verdicts to this path.
        continue_requested: on to the training.
        model_requested: back to the model.
    """

    name = "data"
    title = say("Data")

    starter_requested = Signal()
    settings_requested = Signal(dict)
    row_requested = Signal(object)
    reading_requested = Signal()
    stop_requested = Signal()
    save_requested = Signal(str)
    continue_requested = Signal()
    model_requested = Signal()

    def _made(self) -> Iterator[None]:
        self._config = RunConfig()
        self._report: DataReport | None = None
        self._lengths: LengthStatistics | None = None
        self._row: RowPreview | None = None
        self._current = self._stopped = False
        self.change, self.continue_button = (
            Button(say("Change…"), checkable=True),
            PrimaryButton(say("Continue to Training")),
        )
        self.add = Button(say("Add…"), checkable=True, tip=say("Take the rows of another dataset, too"))
        self.add.setAccessibleName(say("Add a dataset"))
        self.add_action(self.add)
        self.add_action(self.change)
        self.add_action(self.continue_button)
        self._sources: tuple[SourceReport, ...] = ()
        self.model_first, self.choose_model = Notice("info"), Button(say("Choose a model"), "small")
        self.model_first.add_action(self.choose_model)
        self.source = DataSource()
        self._progress_card, self._is_awaited = self._make_progress_card(), False
        for part in (self.model_first, self.source, self._progress_card):
            self.body.addWidget(part)
        yield
        self.mapping = ColumnMapping(self.settings_requested.emit, at_once=False)
        self.body.addWidget(self.mapping)
        yield from self.mapping.steps
        yield
        self.xray = XrayCard()
        self.body.addWidget(self.xray)
        yield
        self.lengths = LengthsCard()
        self._middle = SideBySide(self._make_checks_card(), self.lengths, shares=(7, 5))
        self.body.addWidget(self._middle)
        yield
        self.datasets = SourcesCard(self.settings_requested.emit)
        self.body.addWidget(self.datasets)
        yield
        self._show_sources()
        yield
        self.rows = RowsCard()
        self.body.addWidget(self.rows, 1000)
        self.body.addStretch(1)
        yield
        self._connect()
        self.render_report(None)

    def render_config(self, config: RunConfig) -> None:
        """Show which dataset the draft names."""
        self._config = config
        self._show_sources()
        for card in (self.xray, self.rows):
            card.show_left_out(config.data.exclude)
        self._arrange()
        self._show_lengths()

    def render_job(self, state: RunState, *, of_this: bool = True) -> None:
        """Show what the data job does, or how it failed; that only where the draft is still the one it was asked of."""
        busy = state.last_event > 0 and not state.phase.is_over and state.activity != Activity.READY
        self._progress_card.setVisible(busy or self._is_awaited)
        if busy:
            self._is_awaited = False
            words, share = reading_text(state)
            self._show_progress(words, share, stopped=False)
        if state.failure is not None and of_this:
            self._show_failure(state.failure)

    def render_awaited(self, awaited: bool) -> None:
        """Say that the rows are about to be looked through, where nothing is known of them and no worker told of it."""
        awaited = awaited and self._report is None
        if awaited and self._progress_card.isHidden():
            self._is_awaited = True
            self._show_progress(f"{Phase.STARTING.words} …", None, stopped=False)
            self._progress_card.show()
        elif self._is_awaited and not awaited:
            self._is_awaited = False
            self._progress_card.hide()

    def render_stopped(self) -> None:
        """Say that nobody looks the rows through."""
        self._show_progress(say("Stopped: the rows were not looked through."), 0.0, stopped=True)
        self._progress_card.show()

    def render_report(self, report: DataReport | None, *, current: bool = True) -> None:
        """Show a dataset, or none; where it is not `current`, only what no setting but those of the rows decides."""
        another = report is not self._report
        if not another and current == self._current:
            return
        self._report, self._current = report, current
        self.render_lengths(report.lengths if report and current else None)
        if another:
            self.xray.show_report(report)
            self.rows.show_report(report)
        true_now = report if current else None
        self.checks.show_checks(true_now.checks if true_now else (), pending=report is not None and not current)
        self._refused.setText(true_now.refused if true_now else "")
        self._refused.setVisible(bool(true_now and true_now.refused))
        self.agree.setVisible(bool(true_now and true_now.refused and not true_now.supported))
        is_read = report is not None and report.read
        if report is None or report.read:
            self._sources = report.sources or _lone_source(report) if report else ()
        self._show_sources()
        if report is not None and another:
            self.change.setChecked(False)
            self.add.setChecked(False)
        if is_read and another:
            unknown = any(not source.format for source in self._sources)
            self.reading.setChecked(unknown or self.reading.isChecked())
        self._arrange()

    def render_sources(self, report: SourcesReport) -> None:
        """Show what is known of the datasets before they are read."""
        if self._report is None:
            self._sources = report.sources
            self._show_sources()
            self._arrange()

    def render_lengths(self, lengths: LengthStatistics | None) -> None:
        """Show how long the rows are, which stays true while the max length changes."""
        self._lengths = lengths
        self._show_lengths()

    def render_row(self, row: RowPreview | None) -> None:
        """Show the X-ray of a row, or that it is on its way."""
        if row != self._row:
            self._row = row
            self.xray.show_row(row)

    def _is_tokenized(self) -> bool:
        """Whether rows are read and tokenized, if only for other settings than those of now."""
        report = self._report
        tokenized = report is not None and (report.complete or report.lengths is not None)
        return tokenized and bool(self._config.model.source)

    def _is_complete(self) -> bool:
        """Whether everything is known, and true of the settings as they are now."""
        return self._current and self._report is not None and self._report.complete

    def _show_lengths(self) -> None:
        self.lengths.show_lengths(self._lengths, self._config.training.max_length, current=self._current)

    def _show_progress(self, words: str, share: float | None, *, stopped: bool) -> None:
        self._progress.setText(words)
        self._progress_line.show_share(share)
        self.stop.setText(say("Read again") if stopped else say("Stop"))
        self._stopped = stopped

    def _show_failure(self, failure: Failed) -> None:
        """Show why nothing was read; a choice that is left to the user is a question, not an error."""
        if failure.kind == FailureKind.DATA_CHOICE:
            self.notice.show_message(failure.message, say("Choose one below."), tone="info")
        else:
            self.notice.show_message(failure.message, failure.advice, failure.detail, tone="bad")
        if failure.kind == FailureKind.DATA_REFUSED and any(source.readings for source in self._sources):
            self.reading.setChecked(True)
        self._arrange()

    def _show_sources(self) -> None:
        self.datasets.show_sources(self._config, self._sources, self._report, current=self._current)
        self.mapping.show_sources(self._sources, self._config)

    def _arrange(self) -> None:
        report, path = self._report, self._config.data.path
        summary = data_summary(report, current=self._current) if report else ""
        self.set_heading(datasets_title(self._config), summary if path else _WHAT_FIRST)
        self.model_first.show_message(CHOOSE_MODEL_FIRST if path and not self._config.model.source else "")
        self.continue_button.setEnabled(report is not None and self._is_complete() and not report.refused)
        for button in (self.add, self.change):
            button.setVisible(bool(path))
        self.source.setVisible(not path or self.change.isChecked() or self.add.isChecked())
        self.source.show_adding(self.add.isChecked())
        self.datasets.setVisible(bool(path) and bool(self._sources))
        for part in (self.xray, self._middle):
            part.setVisible(self._is_tokenized())
        self.rows.setVisible(report is not None and (self._is_tokenized() or bool(report.listing)))
        self.mapping.setVisible(bool(self._sources) and self.reading.isChecked())

    def _make_checks_card(self) -> Card:
        self.checks, self._refused = CheckList(say("Checks")), Label("", wrap=True, selectable=True)
        self._refused.set_tone("bad")
        self.agree = Button(
            say("Train on the full text"), "small", tip=say("Every token is learned, not only the answers")
        )
        self.reading = Button(say("How it is read"), "quiet", checkable=True, tip=say("Format, encoding and columns"))
        card = Card(say("Checks"))
        card.add_header(self.reading)
        card.add(self._refused)
        card.body.addWidget(self.agree, 0, Qt.AlignmentFlag.AlignLeft)
        card.add(self.checks)
        card.body.addStretch(1)
        return card

    def _make_progress_card(self) -> Card:
        card = Card(say("Looking through every row"))
        self._progress, self._progress_line = Label("", "muted"), ProgressLine(say("Progress"), 4000)
        self.stop = Button(say("Stop"), "small")
        line = row(spacing=12)
        line.addWidget(self._progress, 1)
        line.addWidget(self.stop)
        card.body.addLayout(line)
        card.add(self._progress_line)
        card.hide()
        return card

    def _connect(self) -> None:
        self.source.data_requested.connect(lambda path: self.take((path,)))
        self.source.starter_requested.connect(self.starter_requested)
        self.add.toggled.connect(self._on_add_toggled)
        self.agree.clicked.connect(lambda: self.settings_requested.emit({"training.loss_on": "all"}))
        self.xray.row_requested.connect(self.row_requested)
        self.rows.row_requested.connect(self.row_requested)
        for card in (self.xray, self.rows):
            card.leaving_requested.connect(self._on_leaving_requested)
        self.rows.save_requested.connect(self.save_requested)
        self.stop.clicked.connect(lambda: (self.reading_requested if self._stopped else self.stop_requested).emit())
        self.lengths.max_length_requested.connect(
            lambda length: self.settings_requested.emit({"training.max_length": length})
        )
        self.change.toggled.connect(self._on_change_toggled)
        self.reading.toggled.connect(lambda _shown: self._arrange())
        self.choose_model.clicked.connect(self.model_requested)
        self.continue_button.clicked.connect(self.continue_requested)

    def take(self, paths: Sequence[str]) -> None:
        """Ask for datasets: the first replaces what was chosen, unless one is being added; the others are added."""
        adding, data = self.add.isChecked(), self._config.data
        self.add.setChecked(False)
        self.settings_requested.emit(added(data, *paths) if adding else fresh(*paths))

    def _on_leaving_requested(self, keys: tuple[str, ...], leave: bool) -> None:
        others = [key for key in self._config.data.exclude if key not in keys]
        self.settings_requested.emit({"data.exclude": [*others, *keys] if leave else others})

    def _on_add_toggled(self, shown: bool) -> None:
        if shown:
            self.change.setChecked(False)
        self._arrange()

    def _on_change_toggled(self, shown: bool) -> None:
        if shown:
            self.add.setChecked(False)
        self._arrange()


def _lone_source(report: DataReport) -> tuple[SourceReport, ...]:
    """Return what a report without datasets says of its one."""
    return (SourceReport(name=report.path, path=report.path, format=report.format, columns=report.columns),)
