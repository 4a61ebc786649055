"""What is known of the draft's dataset: a worker looks it through, and what it says counts for that draft alone."""

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import DataReport, LengthStatistics, RowPreview
from qlora_studio.core.run.commands import ShowRows
from qlora_studio.core.run.events import Event, Failed
from qlora_studio.core.run.job import DataJob
from qlora_studio.core.run.reports import DatasetReported, RowsReported, SourcesReported
from qlora_studio.ui.readiness.data_question import (
    Answer,
    Question,
    lengths_question,
    report_question,
    row_question,
    rows_question,
    tokens_question,
)
from qlora_studio.ui.state.studio import Studio

_SETTLE_MILLISECONDS = 400
_STILL_MILLISECONDS = 3000  # more than between two looks at files that are just being written
_FIRST_ROWS: list[int | str] = ["first"]


class DataCheck(QObject):
    """Looks the draft's dataset through while somebody wants to see it, and again for another draft.

    Signals:
        changed: another draft, another report of it, none any more, or that there will be none.
        sources_known: a SourcesReport on the draft's datasets, before they are read.
        progressed: what the worker does changed.
        begun: a worker looks through, and what was wrong with the last try is over.
    """

    changed = Signal()
    sources_known = Signal(object)
    progressed = Signal()
    begun = Signal()

    def __init__(self, studio: Studio, parent: QObject) -> None:
        super().__init__(parent)
        self._studio, self._job = studio, studio.data
        self._asked: RunConfig | None = None
        self._answer: Answer[DataReport] | None = None
        self._row: Answer[RowPreview] | None = None
        self._wanted: Question | None = None
        self._stopped, self._failed, self._request = False, False, 0
        self._shown: list[int | str] = _FIRST_ROWS
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.timeout.connect(self._look)
        studio.draft.changed.connect(self._on_draft_changed)
        self._job.store.events_applied.connect(self._on_events_applied)
        self._job.store.changed.connect(self._on_job_changed)

    @property
    def rows(self) -> DataReport | None:
        """The newest report on the rows that the draft has, though settings that decide their tokens may be others."""
        return self._known(rows_question)

    @property
    def lengths(self) -> LengthStatistics | None:
        """How long the draft's rows are before they are cut: a max length changes nothing of it."""
        report = self._known(lengths_question)
        return report.lengths if report is not None else None

    @property
    def tokens(self) -> DataReport | None:
        """The report on all rows just as the draft trains them; None until it is complete."""
        report = self._known(tokens_question)
        return report if report is not None and report.complete else None

    @property
    def report(self) -> DataReport | None:
        """The report that is true of the draft word by word; None until it is complete."""
        report = self._known(report_question)
        return report if report is not None and report.complete else None

    @property
    def row(self) -> RowPreview | None:
        """The row of the X-ray, just as the draft trains it."""
        draft, answer = self._studio.draft.config, self._row
        row = answer.to(row_question, draft) if answer is not None else None
        if row is None or answer is None or answer.to(tokens_question, draft) is not None:
            return row
        return row.model_copy(update={"part": "", "pack": None})  # others were left out since, or put back

    @property
    def failure(self) -> Failed | None:
        """Why the draft's dataset could not be looked through."""
        return self._job.store.state.failure if self._asks_the_same(tokens_question) else None

    @property
    def reading(self) -> bool:
        """Whether a worker looks the draft's dataset through, or is about to."""
        config = self._studio.draft.config
        if self._wanted is None or self._stopped or not (config.model.source and config.data.path):
            return False
        known = self._known(self._wanted)
        return (known is None or not known.complete) and self.failure is None

    def want(self, wanted: Question | None) -> None:
        """Say what anybody wants to know of the dataset, None for nothing: that is kept true."""
        self._wanted = wanted
        self._settle.start(_SETTLE_MILLISECONDS)

    def look_again(self) -> None:
        """Look through after all, though the draft is the same."""
        self._asked, self._stopped = None, False
        self._look()

    def doubt(self) -> None:
        """The files are others than they were: forget what they said, and look again once they stay as they are."""
        self._forget()
        self._stopped = False
        self._settle.start(_STILL_MILLISECONDS)

    def stop(self) -> None:
        """Look no further."""
        self._stopped = True
        self._job.end()
        self.changed.emit()

    def ask_row(self, row: int | str) -> None:
        """Ask for the X-ray of a row: longest, shortest, random, or its number from 0."""
        self._request += 1
        self._job.send(ShowRows(request=self._request, rows=[row]))

    def _asks_the_same(self, question: Question) -> bool:
        """Whether the draft asks what the worker was asked last."""
        return self._asked is not None and question(self._asked) == question(self._studio.draft.config)

    def _known(self, question: Question) -> DataReport | None:
        return self._answer.to(question, self._studio.draft.config) if self._answer is not None else None

    def _on_draft_changed(self, _config: RunConfig) -> None:
        self._stopped = False
        self._settle.start(_SETTLE_MILLISECONDS)
        self.changed.emit()

    def _on_job_changed(self) -> None:
        before, self._failed = self._failed, self.failure is not None
        if self._failed and not before:
            self.changed.emit()  # whoever waits for the report waits no more
        self.progressed.emit()

    def _look(self) -> None:
        """Start the worker where somebody wants to see the dataset and the draft is another than it was asked of."""
        config = self._studio.draft.config
        if not config.data.path:
            self._forget()
        elif self._wanted and not self._stopped and not self._asks_the_same(self._wanted):
            if self._known(rows_question) is None:
                self._shown = _FIRST_ROWS
            self._asked = config
            job = DataJob(config=config, rows=self._shown, stay=True, tokenize=bool(config.model.source))
            self._job.start(self._studio.jobs_path, job)
            self.begun.emit()
            self.changed.emit()

    def _forget(self) -> None:
        """Know nothing of the dataset any more: the draft has none, or its files are others."""
        if self._asked is not None:
            self._job.end()
            self._asked = self._answer = self._row = None
            self.begun.emit()
            self.changed.emit()

    def _on_events_applied(self, events: tuple[Event, ...]) -> None:
        for event in events:
            if self._asked is None or not self._asks_the_same(rows_question):
                continue  # the draft has other rows by now
            if isinstance(event, DatasetReported):
                self._take(Answer(self._asked, event.report))
            elif isinstance(event, SourcesReported):
                self.sources_known.emit(event.report)
            elif isinstance(event, RowsReported):
                self._show_row(self._asked, event.report.rows[:1])

    def _show_row(self, asked: RunConfig, rows: tuple[RowPreview, ...]) -> None:
        for row in rows:
            self._shown, self._row = [row.number], Answer(asked, row)
            self.changed.emit()

    def _take(self, answer: Answer[DataReport]) -> None:
        """Take a report; of rows that are only looked through anew, what is known stays until everything is."""
        known = self._known(rows_question)
        if known is None or answer.value.complete or not known.complete:
            self._answer = answer
            self.changed.emit()
