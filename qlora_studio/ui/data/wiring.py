"""Connects the Data page to the draft, and to what is known of its dataset."""

import shutil

from PySide6.QtCore import QObject

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.presets import load_preset
from qlora_studio.ui.data.datasets_view import fresh
from qlora_studio.ui.data.page import DataPage
from qlora_studio.ui.kit.layouts import still
from qlora_studio.ui.readiness.data_check import DataCheck
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.main_window import MainWindow


class DataWiring(QObject):
    """The Data page: it shows of a report what is true of the draft as it is now."""

    def __init__(self, studio: Studio, window: MainWindow, page: DataPage, check: DataCheck) -> None:
        super().__init__(window)
        self._studio, self._page, self._check = studio, page, check
        studio.draft.changed.connect(self._on_draft_changed)
        check.changed.connect(self._render)
        check.begun.connect(page.clear_error)
        check.progressed.connect(self._on_progressed)
        check.sources_known.connect(page.render_sources)
        page.starter_requested.connect(self._on_starter_requested)
        page.settings_requested.connect(studio.draft.set_values)
        page.row_requested.connect(check.ask_row)
        page.reading_requested.connect(check.look_again)
        page.stop_requested.connect(self._on_stop_requested)
        page.save_requested.connect(self._on_save_requested)
        page.model_requested.connect(lambda: window.show_page("model"))
        page.continue_requested.connect(lambda: window.show_page("training"))

    def _on_draft_changed(self, config: RunConfig) -> None:
        self._page.render_config(config)

    def _render(self) -> None:
        check = self._check
        with still(self._page):
            self._page.render_report(check.rows, current=check.report is not None)
            self._page.render_lengths(check.lengths)
            self._page.render_row(check.row)
            self._page.render_awaited(check.reading)
        self._studio.estimates.take_lengths(check.lengths)

    def _on_starter_requested(self) -> None:
        self._studio.draft.set_values(fresh(load_preset("starter").data.path))

    def _on_progressed(self) -> None:
        self._page.render_job(self._studio.data.store.state, of_this=self._check.failure is not None)

    def _on_stop_requested(self) -> None:
        self._check.stop()
        self._page.render_stopped()

    def _on_save_requested(self, path: str) -> None:
        """Keep a copy of the verdicts that the job wrote."""
        report = self._check.report
        if report is None or not report.verdicts_path:
            return
        try:
            shutil.copyfile(report.verdicts_path, path)
        except OSError as error:
            text = say("Cannot write {path}: {strerror}.", path=path, strerror=error.strerror or error)
            self._page.show_error(StudioError(text, kind=FailureKind.NOT_WRITABLE, advice=say("Choose another place.")))
