"""Connects the Runs page to runs that are taken in from elsewhere: one after another, and stopped at will."""

from pathlib import Path

from PySide6.QtCore import QCoreApplication, QObject, QTimer
from PySide6.QtWidgets import QFileDialog

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.run_care.run_import import Copying, import_run
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.runs.page import RunsPage
from qlora_studio.ui.runs.view import taken_text, taking_text
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.run_list import RunsList
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.main_window import MainWindow

_LOOK_MILLISECONDS = 100


class RunsTaking(QObject):
    """Copies runs among the user's, beside the event loop."""

    def __init__(self, studio: Studio, window: MainWindow, page: RunsPage, runs: RunsList) -> None:
        super().__init__(window)
        self._studio, self._window, self._page, self._runs = studio, window, page, runs
        self._sources: list[Path] = []  # the one that is copied, and those that wait
        self._copying = Copying()
        self._copier = Background(self)
        self._copier.answered.connect(self._on_copied)
        self._copier.failed.connect(self._on_failed)
        self._clock = QTimer(self)
        self._clock.setInterval(_LOOK_MILLISECONDS)
        self._clock.timeout.connect(self._render)
        page.import_requested.connect(self._on_import_requested)
        page.taking_requested.connect(lambda path: self.take_in(Path(path)))
        page.taking_stop_requested.connect(self.stop)
        if (app := QCoreApplication.instance()) is not None:
            app.aboutToQuit.connect(self.stop)  # else the process would wait until all is copied

    def take_in(self, source: Path) -> None:
        """Copy a run once those before it are copied."""
        self._sources.append(source)
        if len(self._sources) == 1:
            self._page.clear_error()
            self._page.render_summary("")
            self._take_next()
        self._render()

    def stop(self) -> None:
        """Copy no more: of the one that is being copied nothing stays, and those that wait are left where they are."""
        del self._sources[1:]
        self._copying.stopped = True
        self._render()

    def _take_next(self) -> None:
        self._clock.stop()
        if self._sources:
            self._copying = Copying()
            self._copier.ask(import_run, self._sources[0], self._studio.settings.runs_path, self._copying)
            self._clock.start()
        self._render()

    def _render(self) -> None:
        self._page.render_taking(taking_text(self._sources, self._copying) if self._sources else "")

    def _on_import_requested(self, packed: bool) -> None:
        if packed:
            path, _ = QFileDialog.getOpenFileName(
                self._window, say("Take in a packed run"), "", say("Zip files (*.zip)")
            )
        else:
            path = QFileDialog.getExistingDirectory(self._window, say("Take in a run's folder"))
        if path:
            self.take_in(Path(path))

    def _on_copied(self, folder: RunFolder) -> None:
        self._page.render_summary(taken_text(folder.path.name))
        self._go_on()

    def _on_failed(self, error: StudioError) -> None:
        if error.kind is FailureKind.INTERRUPTED:
            self._page.render_summary(error.message)
        else:
            self._page.show_error(error)
        self._go_on()

    def _go_on(self) -> None:
        self._sources.pop(0)
        self._runs.refresh()
        self._take_next()
