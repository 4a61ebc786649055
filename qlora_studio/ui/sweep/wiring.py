"""Connects the dialog of a sweep to the run that it begins with, the estimates, and the queue."""

from pathlib import Path

from PySide6.QtCore import QObject, QTimer

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.run_care.run_label import name_of
from qlora_studio.storage.run_care.run_reading import RunReadings
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.storage.runs.run_queue import RunQueue
from qlora_studio.storage.runs.trusted_run import TrustedRun
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.sweep.dialog import SweepDialog
from qlora_studio.ui.sweep.forecast import forecasts
from qlora_studio.ui.sweep.view import Forecast
from qlora_studio.ui.window.main_window import MainWindow

_SETTLE_MILLISECONDS = 200


class SweepWiring(QObject):
    """Opens the dialog for a run, and puts into the queue what it makes."""

    def __init__(self, studio: Studio, window: MainWindow, readings: RunReadings) -> None:
        super().__init__(window)
        self._studio, self._window, self._readings = studio, window, readings
        self._path = ""
        self._configs: tuple[RunConfig, ...] = ()
        self._forecasts: tuple[Forecast, ...] = ()
        self.dialog: SweepDialog | None = None
        self._reckoner = Background(self)
        self._reckoner.answered.connect(self._on_reckoner_answered)
        self._maker = Background(self)
        self._maker.answered.connect(lambda _nothing: studio.queue.changed.emit())
        self._maker.failed.connect(self._on_maker_failed)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(_SETTLE_MILLISECONDS)
        self._settle.timeout.connect(self._reckon)

    def open(self, path: str) -> None:
        """Ask over which values a run is to run again. Only a trusted one gives its settings to others."""
        try:
            config = TrustedRun(path).config()
            config = config.model_copy(update={"name": name_of(RunFolder(path), config)})
        except (StudioError, OSError) as error:
            self._window.current_page().show_error(error)
            return
        self._path = path
        self.dialog = SweepDialog(config, self._window)
        self.dialog.runs_changed.connect(self._on_runs_changed)
        self.dialog.queue_requested.connect(self._on_queue_requested)
        self.dialog.destroyed.connect(self._on_dialog_destroyed)
        self.dialog.begin()

    def _on_dialog_destroyed(self) -> None:
        self.dialog = None
        self._settle.stop()
        self._reckoner.forget()

    def _on_runs_changed(self, configs: tuple[RunConfig, ...]) -> None:
        self._configs, self._forecasts = configs, ()
        self._reckoner.forget()
        self._settle.start()

    def _reckon(self) -> None:
        if self._configs:
            self._reckoner.ask(forecasts, self._readings, self._path, self._configs, self._studio.estimates.card)

    def _on_reckoner_answered(self, found: tuple[Forecast, ...]) -> None:
        self._forecasts = found
        if self.dialog is not None:
            self.dialog.render_forecasts(found)

    def _on_queue_requested(self, configs: tuple[RunConfig, ...]) -> None:
        needed = {item.name: item.memory_bytes or 0 for item in self._forecasts}
        self._maker.ask(_make, self._studio.settings.runs_path, configs, needed)
        self._window.show_page("runs")

    def _on_maker_failed(self, error: StudioError) -> None:
        self._studio.failed.emit(error)
        self._studio.queue.changed.emit()  # some may have been made before


def _make(runs: Path, configs: tuple[RunConfig, ...], needed: dict[str, int]) -> None:
    """Create runs and put them at the end of the queue. Raises StudioError where that cannot be."""
    queue = RunQueue(runs)
    for config in configs:
        queue.add(create_run_folder(runs, config), needed.get(config.name, 0))
