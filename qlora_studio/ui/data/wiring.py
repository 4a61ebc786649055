"""Connects the Data page to the draft and to the job that reads, checks, renders and tokenizes the dataset."""

import shutil

from PySide6.QtCore import QObject, QTimer

from qlora_studio.core.data.report import DataReport
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import ShowRows
from qlora_studio.core.run.events import Event
from qlora_studio.core.run.job import DataJob
from qlora_studio.core.run.reports import DatasetReported, RowsReported, SourcesReported
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.storage.presets import load_preset
from qlora_studio.ui.data.datasets_view import fresh
from qlora_studio.ui.data.page import DataPage
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.rail import StepState

_SETTLE_MILLISECONDS = 400
_FIRST_ROWS: list[int | str] = ["first"]


class DataWiring(QObject):
    """The Data page with its job: a worker reads the dataset when the page is shown, and again for another draft."""

    def __init__(self, studio: Studio, window: MainWindow, page: DataPage) -> None:
        super().__init__(window)
        self._studio, self._window, self._page, self._job = studio, window, page, studio.data
        self._read_for: tuple[object, ...] | None = None
        self._request = 0
        self._shown: list[int | str] = _FIRST_ROWS
        self._report: DataReport | None = None
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(_SETTLE_MILLISECONDS)
        self._settle.timeout.connect(self._read)
        studio.draft.changed.connect(self._on_draft_changed)
        window.page_shown.connect(lambda _name: self._settle.start())
        self._job.store.events_applied.connect(self._on_events_applied)
        self._job.store.changed.connect(self._on_job_changed)
        page.starter_requested.connect(self._on_starter_requested)
        page.settings_requested.connect(studio.draft.set_values)
        page.row_requested.connect(self._on_row_requested)
        page.reading_requested.connect(self._on_reading_requested)
        page.stop_requested.connect(self._on_stop_requested)
        page.save_requested.connect(self._on_save_requested)
        page.continue_requested.connect(lambda: window.show_page("training"))

    def _on_draft_changed(self, config: RunConfig) -> None:
        self._page.render_config(config)
        self._settle.start()

    def _on_starter_requested(self) -> None:
        self._studio.draft.set_values(fresh(load_preset("starter").data.path))

    def _on_reading_requested(self) -> None:
        self._read_for = None
        self._read()

    def _on_stop_requested(self) -> None:
        self._job.end()
        self._page.render_job(None)

    def _on_row_requested(self, row: int | str) -> None:
        self._request += 1
        self._job.send(ShowRows(request=self._request, rows=[row]))

    def _read(self) -> None:
        """Start the job where the page is open and the draft is another than the one that was read."""
        config = self._studio.draft.config
        wanted = _what_matters(config)
        if not config.data.path and self._read_for is not None:
            self._forget()
        if self._window.current_page() is not self._page or not config.data.path or wanted == self._read_for:
            return
        same_rows = self._read_for is not None and self._read_for[0] == wanted[0]
        self._read_for, self._report = wanted, self._report if same_rows else None
        self._page.clear_error()
        if not same_rows:
            self._page.render_report(None)
            self._window.set_step("data", StepState.TODO)
            self._shown = _FIRST_ROWS
        self._job.start(self._studio.jobs_path, DataJob(config=config, rows=self._shown, stay=True))

    def _forget(self) -> None:
        """Show nothing: the draft has no dataset any more."""
        self._job.end()
        self._read_for = self._report = None
        self._page.clear_error()
        self._page.render_job(None)
        self._page.render_report(None)
        self._window.set_step("data", StepState.TODO)

    def _on_job_changed(self) -> None:
        state = self._job.store.state
        self._page.render_job(state)
        if state.failure is not None:
            is_question = state.failure.kind == FailureKind.DATA_CHOICE
            self._window.set_step("data", StepState.TODO if is_question else StepState.PROBLEM)

    def _on_events_applied(self, events: tuple[Event, ...]) -> None:
        for event in events:
            if isinstance(event, DatasetReported):
                self._show(event.report)
            elif isinstance(event, SourcesReported):
                self._page.render_sources(event.report)
            elif isinstance(event, RowsReported):
                self._page.render_rows(event.report)
                self._shown = [*(row.number for row in event.report.rows[:1])] or self._shown

    def _show(self, report: DataReport) -> None:
        if self._report is not None and not report.complete:
            return  # the same rows are looked through again: what is shown stays until everything is known
        self._report = report
        self._page.render_report(report)
        self._window.set_step("data", StepState.PROBLEM if report.refused else StepState.DONE)
        self._studio.estimates.take_lengths(report.lengths)

    def _on_save_requested(self, path: str) -> None:
        """Keep a copy of the verdicts that the job wrote."""
        if self._report is None or not self._report.verdicts_path:
            return
        try:
            shutil.copyfile(self._report.verdicts_path, path)
        except OSError as error:
            text = f"Cannot write {path}: {error.strerror or error}."
            self._page.show_error(StudioError(text, kind=FailureKind.NOT_WRITABLE, advice="Choose another place."))


def _what_matters(config: RunConfig) -> tuple[object, ...]:
    """Return what a preview depends on; what decides which rows there are stands first."""
    training, data = config.training, config.data
    of_rows = config.model, data.model_copy(update={"exclude": []})
    return of_rows, data.exclude, training.max_length, training.loss_on, training.packing, training.seed
