"""Connects the Chat page to the runs, and to the job that holds the model."""

from PySide6.QtCore import QObject

from qlora_studio.core.run.commands import Ask, EndAnswers
from qlora_studio.core.run.job import ChatJob
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.chat.page import ChatPage
from qlora_studio.ui.kit.seen import WhenSeen
from qlora_studio.ui.state.run_choice import choice_of
from qlora_studio.ui.state.run_list import RunsList
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.main_window import MainWindow


class ChatWiring(QObject):
    """The Chat page with the job that holds the model."""

    def __init__(self, studio: Studio, window: MainWindow, page: ChatPage, runs: RunsList) -> None:
        super().__init__(window)
        self._studio, self._page, self._runs, self._job = studio, page, runs, studio.chat
        self._chosen = ""
        self._seen = WhenSeen(page, self._render)
        runs.changed.connect(self._seen.ask)
        window.page_shown.connect(self._on_page_shown)
        self._job.store.changed.connect(self._render_job)
        self._job.store.events_applied.connect(page.render_events)
        page.ask_requested.connect(self._on_ask_requested)
        page.run_requested.connect(lambda _path: self._job.end())
        page.stop_requested.connect(self._job.stop)
        page.end_requested.connect(lambda: self._job.send(EndAnswers()))
        page.training_requested.connect(lambda: window.show_page("training"))

    def choose(self, path: str) -> None:
        """Talk to a run."""
        self._chosen = path
        self._render()

    def _on_page_shown(self, name: str) -> None:
        if name == self._page.name:
            self._runs.refresh()
            self._seen.ask()  # while it is read, nothing is said of there being none

    def _render(self) -> None:
        choices = [choice_of(line) for line in self._runs.with_adapter()]
        shown = self._page.run.value()
        self._page.render_runs(choices, self._chosen or shown, reading=self._runs.is_reading)
        self._chosen = ""

    def _render_job(self) -> None:
        self._page.render_job(self._job.store.state, stopping=self._job.stopping)

    def _on_ask_requested(self, run: str, checkpoint: str, asks: list[Ask]) -> None:
        job = ChatJob(run_dir=run, checkpoint=checkpoint)
        at_work = self._job.is_at_work() and self._job.job == job
        if at_work or self._job.start(RunFolder(run).jobs_path, job):
            for ask in asks:
                self._job.send(ask)
