"""The uploads of the Export page with the job behind them."""

from PySide6.QtCore import QObject

from qlora_studio.core.run.commands import Stop
from qlora_studio.core.run.job import UploadJob
from qlora_studio.ui.export.page import ExportPage
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.main_window import MainWindow


class UploadWiring(QObject):
    """One upload at a time, shown in the card of its export."""

    def __init__(self, studio: Studio, window: MainWindow, page: ExportPage) -> None:
        super().__init__(window)
        self._studio, self._page, self._job = studio, page, studio.upload
        self._job.store.changed.connect(self._on_job_changed)
        page.upload_requested.connect(self._on_upload_requested)
        page.upload_stop_requested.connect(lambda: self._job.send(Stop(save=False)))

    def _on_upload_requested(self, job: UploadJob) -> None:
        if not self._job.is_at_work():
            self._job.start(self._studio.jobs_path, job)

    def _on_job_changed(self) -> None:
        if isinstance(self._job.job, UploadJob):
            self._page.render_upload(self._job.job.path, self._job.store.state)
