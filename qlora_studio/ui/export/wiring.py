"""Connects the Export page to the runs, to the export job, and to the uploads."""

from PySide6.QtCore import QObject

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.job import ExportJob, UploadJob
from qlora_studio.core.run.reports import VerificationReport, VerificationReported
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.export.page import ExportPage
from qlora_studio.ui.kit.desktop.folders import show_folder
from qlora_studio.ui.kit.seen import WhenSeen
from qlora_studio.ui.state.run_choice import choice_of
from qlora_studio.ui.state.run_line import PastExport
from qlora_studio.ui.state.run_list import RunsList
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.dialogs import ask_other_base
from qlora_studio.ui.window.main_window import MainWindow


class ExportWiring(QObject):
    """The Export page with the runs and the export job."""

    def __init__(self, studio: Studio, window: MainWindow, page: ExportPage, runs: RunsList) -> None:
        super().__init__(window)
        self._studio, self._window, self._page, self._runs, self._job = studio, window, page, runs, studio.export
        self._chosen = ""
        self._over = True
        self._news: tuple[str, int, bool] | None = None
        self._seen = WhenSeen(page, self._render)
        runs.changed.connect(self._seen.ask)
        studio.disk.looked.connect(WhenSeen(page, page.look_at_drives).ask)
        window.page_shown.connect(lambda name: runs.refresh() if name == page.name else None)
        studio.runs.changed.connect(self._on_shown_run_changed)
        self._job.store.changed.connect(self._on_job_changed)
        page.run_requested.connect(self.choose)
        page.export_requested.connect(self._on_export_requested)
        page.force_requested.connect(self._on_force_requested)
        page.stop_requested.connect(self._job.stop)
        page.folder_requested.connect(show_folder)
        page.training_requested.connect(lambda: window.show_page("training"))

    def choose(self, path: str) -> None:
        """Show a run."""
        self._chosen = path
        self._render()

    def _render(self) -> None:
        lines = self._runs.with_adapter()
        self._page.render_runs([choice_of(line) for line in lines], self._chosen)
        run = self._page.chosen_run()
        line = self._runs.line(run.path) if run else None
        self._page.render_results((*self._elsewhere(), *(line.exports if line else ())))

    def _elsewhere(self) -> tuple[PastExport, ...]:
        """What the job wrote outside of the run's own folder."""
        job, run = self._job.job, self._page.chosen_run()
        if not isinstance(job, ExportJob) or run is None or job.run_dir != run.path or not job.out_dir:
            return ()
        state = self._job.store.state
        reports = {item.report.path: item.report for item in state.reports if isinstance(item, VerificationReported)}
        return tuple(
            PastExport(exported, reports.get(exported.path, VerificationReport())) for exported in state.exports
        )

    def _on_shown_run_changed(self) -> None:
        """Offer a run that has just been trained, once; and list its exports as they come."""
        session = self._studio.runs.shown
        if session is None or not session.store.state.adapter_path:
            return
        path, state = str(session.folder.path), session.store.state
        news = (path, len(state.exports), state.phase.is_over)
        if news != self._news:
            self._chosen = path if not self._news or self._news[0] != path else self._chosen
            self._news = news
            self._runs.refresh()

    def _on_force_requested(self, job: ExportJob) -> None:
        run = self._page.chosen_run()
        if run is not None and ask_other_base(self._window, run.name):
            self._on_export_requested(job)

    def _on_export_requested(self, job: ExportJob) -> None:
        self._over = False
        if self._job.start(RunFolder(job.run_dir).jobs_path, job):
            self._page.clear_error()

    def _on_job_changed(self) -> None:
        state = self._job.store.state
        self._page.render_job(state, stopping=self._job.stopping)
        over = state.phase.is_over and state.phase != Phase.NEW
        if over and not self._over:
            self._runs.refresh()
        self._over = over


class UploadWiring(QObject):
    """One upload at a time, shown in the card of its export."""

    def __init__(self, studio: Studio, window: MainWindow, page: ExportPage) -> None:
        super().__init__(window)
        self._studio, self._page, self._job = studio, page, studio.upload
        self._job.store.changed.connect(self._on_job_changed)
        page.upload_requested.connect(self._on_upload_requested)
        page.upload_stop_requested.connect(self._job.stop)

    def _on_upload_requested(self, job: UploadJob) -> None:
        if not self._job.is_at_work():
            self._job.start(self._studio.jobs_path, job)

    def _on_job_changed(self) -> None:
        if isinstance(self._job.job, UploadJob):
            self._page.render_upload(self._job.job.path, self._job.store.state, stopping=self._job.stopping)
