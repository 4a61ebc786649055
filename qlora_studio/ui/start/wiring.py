"""Connects the Start page to the starter project, to what was used last, and to where files and folders belong."""

from pathlib import Path

from PySide6.QtCore import QObject

from qlora_studio.storage.models.location import has_starter
from qlora_studio.storage.presets import load_preset
from qlora_studio.ui.kit.seen import WhenSeen
from qlora_studio.ui.start.page import StartPage
from qlora_studio.ui.start.starter_fetch import StarterFetch
from qlora_studio.ui.start.view import recent_datasets, recent_models, recent_runs, starter_button
from qlora_studio.ui.state.run_list import RunsList
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.arrivals import Places
from qlora_studio.ui.window.main_window import MainWindow


class StartWiring(QObject):
    """The Start page with what stands behind it."""

    def __init__(self, studio: Studio, window: MainWindow, page: StartPage, runs: RunsList, places: Places) -> None:
        super().__init__(window)
        self._studio, self._window, self._page, self._runs, self._places = studio, window, page, runs, places
        self._starter = load_preset("starter")
        self._fetch = StarterFetch(self)
        self._fetch.changed.connect(self._on_runs_worked)
        self._fetch.came.connect(self._on_starter_requested)
        self._fetch.failed.connect(page.show_error)
        self._seen = WhenSeen(page, self._render)
        runs.changed.connect(self._seen.ask)
        studio.runs.worked.connect(self._on_runs_worked)
        window.page_shown.connect(self._on_page_shown)
        page.starter_requested.connect(self._on_starter_requested)
        page.path_requested.connect(lambda path: window.drops.arrived.emit([path]))
        page.page_requested.connect(window.show_page)
        page.model_requested.connect(self._on_model_requested)
        page.dataset_requested.connect(self._on_dataset_requested)
        page.run_requested.connect(places.run)
        self._on_runs_worked()

    def _on_page_shown(self, name: str) -> None:
        if name == self._page.name:
            self._page.clear_error()
            self._on_runs_worked()
            self._render()
            self._runs.refresh()

    def _on_runs_worked(self) -> None:
        busy = bool(self._studio.runs.at_work())
        self._page.render_starter(starter_button(busy=busy, is_here=has_starter(), coming=self._fetch.coming))

    def _render(self) -> None:
        session, home = self._studio.session.session, Path.home()
        self._page.render_recents(
            recent_models(session.recent_models, home),
            recent_datasets(session.recent_datasets, home, self._starter.data.path),
            recent_runs(self._runs.lines),
        )

    def _on_starter_requested(self) -> None:
        """Train the starter project. It becomes the draft, too, unless the user has begun one with a choice of own."""
        self._page.clear_error()
        if self._fetch.coming is not None:
            self._fetch.stop()
            return
        if not has_starter():
            self._fetch.begin()
            return
        draft = self._studio.draft
        starter = self._starter.model_copy(update={"hardware": draft.config.hardware})
        if not (draft.config.model.source or draft.config.data.path):
            draft.replace(starter)
        if self._studio.runs.start(starter, self._studio.settings.runs_path):
            self._window.show_page("run")

    def _on_model_requested(self, source: str) -> None:
        self._window.show_page("model")
        self._places.model(source, "")

    def _on_dataset_requested(self, path: str) -> None:
        self._window.show_page("data")
        self._places.datasets([path])
