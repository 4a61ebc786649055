"""The page where the dataset is chosen and looked through: what is seen here is exactly what is trained."""

from PySide6.QtCore import Signal

from qlora_studio.core.data_report import Check, DataReport, RowsReport
from qlora_studio.core.run_config import RunConfig
from qlora_studio.core.run_state import RunState
from qlora_studio.ui.bars import ProgressLine
from qlora_studio.ui.check_list import CheckList
from qlora_studio.ui.column_mapping import ColumnMapping
from qlora_studio.ui.data_source import DataSource
from qlora_studio.ui.data_view import data_summary, data_title, progress_text
from qlora_studio.ui.lengths_card import LengthsCard
from qlora_studio.ui.page import Page
from qlora_studio.ui.plain_text import Label
from qlora_studio.ui.rows_card import RowsCard
from qlora_studio.ui.side_by_side import SideBySide
from qlora_studio.ui.widgets import Button, Card, PrimaryButton, row
from qlora_studio.ui.xray_card import XrayCard


class DataPage(Page):
    """Choose a dataset; see its rows, tokens, checks and lengths.

    Signals:
        data_requested: a path, or a name on the hub.
        starter_requested: the dataset that comes with the program.
        settings_requested: values of the draft by path.
        row_requested: X-ray of a row: longest, shortest, random, or its number from 0.
        reading_requested: read and check again.
        stop_requested: stop reading.
        save_requested: write the verdicts to this path.
        continue_requested: on to the training.
    """

    name = "data"
    title = "Data"

    data_requested = Signal(str)
    starter_requested = Signal()
    settings_requested = Signal(dict)
    row_requested = Signal(object)
    reading_requested = Signal()
    stop_requested = Signal()
    save_requested = Signal(str)
    continue_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._config = RunConfig()
        self._report: DataReport | None = None
        self.change, self.continue_button = Button("Change…", checkable=True), PrimaryButton("Continue to Training")
        self.add_action(self.change)
        self.add_action(self.continue_button)
        self.source, self.mapping, self.xray = DataSource(), ColumnMapping(), XrayCard()
        self.lengths, self.rows, self.checks = LengthsCard(), RowsCard(), CheckList("Checks")
        self._refused = Label("", wrap=True, selectable=True)
        self._refused.set_tone("bad")
        self._checks_card = Card("Checks")
        self.reading = Button("How it is read", "quiet", checkable=True, tip="Format, encoding and columns")
        self._build()
        self._connect()
        self.render_report(None)

    def render_config(self, config: RunConfig) -> None:
        """Show which dataset the draft names."""
        self._config = config
        self._arrange()
        if self._report is not None:
            self.mapping.show_columns(self._report.columns, config)
            self.lengths.show_lengths(self._report.lengths, config.training.max_length)

    def render_job(self, state: RunState | None) -> None:
        """Show what the data job does, or how it failed."""
        busy = state is not None and state.last_event > 0 and not state.phase.is_over and state.activity != "ready"
        self._progress_card.setVisible(busy)
        if state is None:
            return
        if busy:
            words, share = progress_text(state)
            self._progress.setText(words)
            self._progress_line.show_share(share)
        if state.failure is not None:
            self.notice.show_message(state.failure.message, state.failure.advice, state.failure.detail)
            self._arrange()

    def render_report(self, report: DataReport | None) -> None:
        """Show a dataset, or none."""
        self._report = report
        self.xray.show_report(report)
        self.rows.show_report(report)
        self.checks.show_checks(report.checks if report else ())
        self.lengths.show_lengths(report.lengths if report else None, self._config.training.max_length)
        self._refused.setText(report.refused if report else "")
        self._refused.setVisible(bool(report and report.refused))
        if report is not None:
            self.change.setChecked(False)
            self.mapping.show_columns(report.columns, self._config)
            self.reading.setChecked(not report.format or self.reading.isChecked())
        self._arrange()

    def render_rows(self, report: RowsReport) -> None:
        """Show the X-ray of the first of these rows."""
        if report.rows:
            self.xray.show_row(report.rows[0])

    def shown_checks(self) -> tuple[Check, ...]:
        """Return the checks that are shown."""
        return self._report.checks if self._report else ()

    def _is_complete(self) -> bool:
        """Whether rows are read and tokenized."""
        return self._report is not None and self._report.complete

    def _arrange(self) -> None:
        report, path = self._report, self._config.data.path
        self.set_heading(data_title(path), data_summary(report) if report else self._without_report())
        self.continue_button.setEnabled(report is not None and self._is_complete() and not report.refused)
        self.change.setVisible(bool(path))
        self.source.setVisible(not path or self.change.isChecked())
        for part in (self.xray, self._middle):
            part.setVisible(self._is_complete())
        self.rows.setVisible(report is not None)
        self.mapping.setVisible(report is not None and self.reading.isChecked())

    def _without_report(self) -> str:
        if not self._config.data.path:
            return "What should it learn from? Rows of chats, instructions or text."
        return (
            ""
            if self._config.model.source
            else "Choose a model first: its tokenizer and template decide what is trained."
        )

    def _build(self) -> None:
        self._checks_card.add_header(self.reading)
        self._checks_card.add(self._refused, self.checks)
        self._checks_card.body.addStretch(1)
        self._middle = SideBySide(self._checks_card, self.lengths, shares=(7, 5))
        self._progress_card = self._make_progress_card()
        for part in (self.source, self._progress_card, self.mapping, self.xray, self._middle):
            self.body.addWidget(part)
        self.body.addWidget(self.rows, 1000)
        self.body.addStretch(1)

    def _make_progress_card(self) -> Card:
        card = Card("Looking through every row")
        self._progress, self._progress_line = Label("", "muted"), ProgressLine("Progress", 4000)
        self.stop = Button("Stop", "small")
        line = row(spacing=12)
        line.addWidget(self._progress, 1)
        line.addWidget(self.stop)
        card.body.addLayout(line)
        card.add(self._progress_line)
        card.hide()
        return card

    def _connect(self) -> None:
        self.source.data_requested.connect(self.data_requested)
        self.source.starter_requested.connect(self.starter_requested)
        self.mapping.settings_requested.connect(self.settings_requested)
        self.xray.row_requested.connect(self.row_requested)
        self.rows.row_requested.connect(self.row_requested)
        self.rows.save_requested.connect(self.save_requested)
        self.stop.clicked.connect(self.stop_requested)
        self.lengths.max_length_requested.connect(
            lambda length: self.settings_requested.emit({"training.max_length": length})
        )
        self.change.toggled.connect(lambda _shown: self._arrange())
        self.reading.toggled.connect(lambda _shown: self._arrange())
        self.continue_button.clicked.connect(self.continue_requested)
