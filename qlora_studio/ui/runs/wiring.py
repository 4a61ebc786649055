"""Connects the pages of finished runs, Runs, Export and Chat, to the list of runs and to their jobs."""

from PySide6.QtCore import QObject

from qlora_studio.core.errors import StudioError
from qlora_studio.jobs.worker_ending import acknowledge_breakdown
from qlora_studio.storage.run_care.run_label import name_of
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.kit.desktop.folders import show_folder
from qlora_studio.ui.kit.seen import WhenSeen
from qlora_studio.ui.runs.managing import RunSizes, RunsManaging
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.runs.run_file import RunFiles
from qlora_studio.ui.runs.taking import RunsTaking
from qlora_studio.ui.runs.view import unfinished, with_queue, with_sizes
from qlora_studio.ui.state.run_list import RunsList
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.dialogs import Discarding, ask_discard, ask_trust
from qlora_studio.ui.window.main_window import MainWindow


class RunsWiring(QObject):
    """The Runs page with the runs on disk behind it."""

    def __init__(self, studio: Studio, window: MainWindow, page: RunsPage, runs: RunsList) -> None:
        super().__init__(window)
        self._studio, self._window, self._page, self._runs = studio, window, page, runs
        self._launched = False
        self._shown = ""
        self._managing = RunsManaging(studio, window, page, runs)
        RunsTaking(studio, window, page, runs)
        RunFiles(studio, window, page)
        self._sizes = RunSizes(page, runs, self._render)
        self._seen = WhenSeen(page, self._render)
        runs.changed.connect(self._seen.ask)
        runs.changed.connect(self._on_first_list)
        window.page_shown.connect(self._on_page_shown)
        studio.queue.changed.connect(self._seen.ask)
        studio.queue.changed.connect(runs.refresh_soon)
        page.queue_requested.connect(self._on_queue_requested)
        studio.runs.worked.connect(self._on_runs_worked)
        studio.runs.changed.connect(self._on_shown_run_changed)
        page.refresh_requested.connect(runs.refresh)
        page.open_requested.connect(lambda path: self._open(path, start_it=False))
        page.resume_requested.connect(lambda path: self._open(path, start_it=True))
        page.draft_requested.connect(self._on_draft_requested)
        page.folder_requested.connect(show_folder)
        page.training_requested.connect(lambda: window.show_page("training"))
        page.discard_requested.connect(self._on_discard_requested)
        page.trust_requested.connect(self._on_trust_requested)
        studio.queue.ended.connect(page.render_summary)

    def _on_shown_run_changed(self) -> None:
        """Select a run that is opened elsewhere; in front of its user, the table keeps what is selected."""
        shown = self._studio.runs.shown
        before, self._shown = self._shown, str(shown.folder.path) if shown is not None else ""
        if self._shown not in ("", before) and self._window.current_page() is not self._page:
            self._page.table.choose(self._shown)

    def _on_first_list(self) -> None:
        """After the launch, stand before a run that is not finished, unless the user has gone somewhere meanwhile."""
        launched, self._launched = self._launched, True
        if not launched and (line := unfinished(self._runs.lines)) is not None:
            self._open(line.path, start_it=False)

    def _on_page_shown(self) -> None:
        self._launched = True

    def _on_discard_requested(self, path: str) -> None:
        folder, line = RunFolder(path), self._runs.line(path)
        choice = ask_discard(self._window, line.name if line else folder.path.name)
        if choice is Discarding.TRASH:
            self._managing.remove([path])
            return
        try:
            if choice is Discarding.KEEP:
                acknowledge_breakdown(folder)
        except (StudioError, OSError) as error:
            self._page.show_error(error)
        self._runs.refresh()

    def _on_trust_requested(self, path: str) -> None:
        line = self._runs.line(path)
        name = line.name if line else RunFolder(path).path.name
        self._studio.trust(RunFolder(path), lambda lines: ask_trust(self._window, name, lines))

    def _render(self) -> None:
        queue = self._studio.queue
        lines = with_queue(self._runs.lines, queue.waiting(), queue.waits_for())
        lines = with_sizes(lines, self._sizes.sizes)
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
            self._page.table.choose(path)
            self._window.show_page("run")

    def _on_draft_requested(self, path: str) -> None:
        try:
            config = RunFolder(path).config()
            name = name_of(RunFolder(path), config)
        except (StudioError, OSError) as error:
            self._page.show_error(error)
            return
        self._studio.draft.propose(f"“{name}”", config)
