"""Connects the pages of finished runs, Runs, Export and Chat, to the list of runs and to their jobs."""

from pathlib import Path

from PySide6.QtCore import QFile, QObject, QUrl
from PySide6.QtGui import QDesktopServices

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.commands import Ask, Stop
from qlora_studio.core.run.job import ChatJob, ExportJob
from qlora_studio.core.run.run_state import Phase
from qlora_studio.jobs.worker_ending import acknowledge_breakdown
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.chat.page import ChatPage
from qlora_studio.ui.export.page import ExportPage
from qlora_studio.ui.export.view import choice_of
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.runs.view import with_queue
from qlora_studio.ui.state.export_list import PastExport
from qlora_studio.ui.state.run_list import RunsList
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.dialogs import Discarding, ask_discard, ask_other_base
from qlora_studio.ui.window.main_window import MainWindow


class RunsWiring(QObject):
    """The Runs page with the runs on disk behind it."""

    def __init__(self, studio: Studio, window: MainWindow, page: RunsPage, runs: RunsList) -> None:
        super().__init__(window)
        self._studio, self._window, self._page, self._runs = studio, window, page, runs
        self._launched = False
        runs.changed.connect(self._render)
        runs.changed.connect(self._on_first_list)
        window.page_shown.connect(self._on_page_shown)
        studio.queue.changed.connect(self._render)
        studio.queue.changed.connect(runs.refresh_soon)
        page.queue_requested.connect(self._on_queue_requested)
        studio.runs.worked.connect(self._on_runs_worked)
        page.refresh_requested.connect(runs.refresh)
        page.open_requested.connect(lambda path: self._open(path, start_it=False))
        page.resume_requested.connect(lambda path: self._open(path, start_it=True))
        page.draft_requested.connect(self._on_draft_requested)
        page.folder_requested.connect(show_folder)
        page.training_requested.connect(lambda: window.show_page("training"))
        page.discard_requested.connect(self._on_discard_requested)
        studio.queue.ended.connect(page.render_summary)

    def _on_first_list(self) -> None:
        """After the launch, show a run that broke off, unless the user has gone somewhere meanwhile."""
        launched, self._launched = self._launched, True
        if not launched and any(line.broken for line in self._runs.lines):
            self._window.show_page("runs")

    def _on_page_shown(self) -> None:
        self._launched = True

    def _on_discard_requested(self, path: str) -> None:
        folder, line = RunFolder(path), self._runs.line(path)
        choice = ask_discard(self._window, line.name if line else folder.path.name)
        try:
            if choice is Discarding.KEEP:
                acknowledge_breakdown(folder)
            elif choice is Discarding.TRASH:
                self._studio.runs.forget(folder)
                move_to_trash(folder.path)
        except (StudioError, OSError) as error:
            self._page.show_error(error)
        self._runs.refresh()

    def _render(self) -> None:
        lines = with_queue(self._runs.lines, self._studio.queue.waiting())
        self._page.render_runs(lines, str(self._studio.settings.runs_path))

    def _on_queue_requested(self, path: str) -> None:
        queue = self._studio.queue
        folder = RunFolder(path)
        if str(folder.path.resolve()) in queue.waiting():
            queue.remove(folder)
        else:
            queue.add(folder)

    def _on_runs_worked(self) -> None:
        if self._window.current_page() is self._page:
            self._runs.refresh_soon()

    def _open(self, path: str, *, start_it: bool) -> None:
        self._page.clear_error()
        if self._studio.runs.open(RunFolder(path), start_it=start_it):
            self._window.show_page("run")

    def _on_draft_requested(self, path: str) -> None:
        try:
            self._studio.draft.replace(RunFolder(path).config())
        except (StudioError, OSError) as error:
            self._page.show_error(error)
            return
        self._window.show_page("training")


class ExportWiring(QObject):
    """The Export page with the runs and the export job."""

    def __init__(self, studio: Studio, window: MainWindow, page: ExportPage, runs: RunsList) -> None:
        super().__init__(window)
        self._studio, self._window, self._page, self._runs, self._job = studio, window, page, runs, studio.export
        self._chosen = ""
        self._over = True
        self._news: tuple[str, int, bool] | None = None
        runs.changed.connect(self._render)
        window.page_shown.connect(lambda name: runs.refresh() if name == page.name else None)
        studio.runs.changed.connect(self._on_shown_run_changed)
        self._job.store.changed.connect(self._on_job_changed)
        page.run_requested.connect(self.choose)
        page.export_requested.connect(self._on_export_requested)
        page.force_requested.connect(self._on_force_requested)
        page.stop_requested.connect(lambda: self._job.send(Stop(save=False)))
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
        reports = {str(item.report.get("path")): item.report for item in state.reports if item.kind == "verification"}
        return tuple(PastExport(exported, reports.get(exported.path, {})) for exported in state.exports)

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
            self._runs.refresh_soon()

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
        self._page.render_job(state)
        over = state.phase.is_over and state.phase != Phase.NEW
        if over and not self._over:
            self._runs.refresh()
        self._over = over


class ChatWiring(QObject):
    """The Chat page with the job that holds the model."""

    def __init__(self, studio: Studio, window: MainWindow, page: ChatPage, runs: RunsList) -> None:
        super().__init__(window)
        self._studio, self._page, self._runs, self._job = studio, page, runs, studio.chat
        self._chosen = ""
        runs.changed.connect(self._render)
        window.page_shown.connect(lambda name: runs.refresh() if name == page.name else None)
        self._job.store.changed.connect(lambda: page.render_job(self._job.store.state))
        self._job.store.events_applied.connect(page.render_events)
        page.ask_requested.connect(self._on_ask_requested)
        page.run_requested.connect(lambda _path: self._job.end())
        page.stop_requested.connect(lambda: self._job.send(Stop(save=False)))
        page.training_requested.connect(lambda: window.show_page("training"))

    def choose(self, path: str) -> None:
        """Talk to a run."""
        self._chosen = path
        self._render()

    def _render(self) -> None:
        lines = self._runs.with_adapter()
        shown = self._page.run.value()
        self._page.render_runs([choice_of(line) for line in lines], self._chosen or shown)
        self._chosen = ""

    def _on_ask_requested(self, run: str, checkpoint: str, asks: list[Ask]) -> None:
        job = ChatJob(run_dir=run, checkpoint=checkpoint)
        at_work = self._job.is_at_work() and self._job.job == job
        if at_work or self._job.start(RunFolder(run).jobs_path, job):
            for ask in asks:
                self._job.send(ask)


def move_to_trash(path: Path) -> None:
    """Put a folder into the desktop's trash. Raises StudioError where that cannot be."""
    if not QFile.moveToTrash(str(path)):
        raise StudioError(
            f"{path} cannot be moved to the trash.",
            kind="not_writable",
            advice="Remove the folder by hand, or keep the run.",
        )


def show_folder(path: str) -> None:
    """Open a folder on the desktop."""
    QDesktopServices.openUrl(QUrl.fromLocalFile(path))
