"""Connects the comparison to the runs: reads them beside the event loop, one after another, and again what goes on."""

from collections.abc import Sequence
from dataclasses import replace

from PySide6.QtCore import QObject, QTimer

from qlora_studio.core.comparison.run_record import RunRecord
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.run_care.run_reading import RunReadings
from qlora_studio.ui.comparison.page import ComparisonPage
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.run_list import RunsList
from qlora_studio.ui.window.main_window import MainWindow

_AGAIN_MILLISECONDS = 3000
_MOST_OFFERED = 40  # runs in the menu; more are chosen on the page of runs


class ComparisonWiring(QObject):
    """The comparison with the runs on disk behind it."""

    def __init__(self, window: MainWindow, page: ComparisonPage, runs: RunsList, readings: RunReadings) -> None:
        super().__init__(window)
        self._window, self._page, self._runs = window, page, runs
        self._readings = readings
        self._records: dict[str, RunRecord] = {}
        self._chosen: tuple[str, ...] = ()
        self._to_read: list[str] = []
        self._reader = Background(self)
        self._reader.answered.connect(self._on_reader_answered)
        self._reader.failed.connect(self._on_reader_failed)
        self._again = QTimer(self)
        self._again.setSingleShot(True)
        self._again.setInterval(_AGAIN_MILLISECONDS)
        self._again.timeout.connect(self._read_again)
        page.back_requested.connect(lambda: window.show_page("runs"))
        page.choice_requested.connect(self.choose)
        page.shown.connect(self._read_again)
        runs.changed.connect(self._on_runs_changed)

    def open(self, paths: Sequence[str]) -> None:
        """Compare runs, and bring the page to the front."""
        self.choose(paths)
        self._window.show_page(self._page.name)

    def choose(self, paths: Sequence[str]) -> None:
        """Compare these runs."""
        self._page.clear_error()
        self._chosen = tuple(dict.fromkeys(paths))
        self._records = {path: record for path, record in self._records.items() if path in self._chosen}
        self._render_choices()
        self._read(self._chosen)

    def _read_again(self) -> None:
        """Read what goes on, as long as somebody looks."""
        if self._window.current_page() is self._page and not self._to_read:
            self._read(self._chosen)

    def _read(self, paths: Sequence[str]) -> None:
        self._again.stop()
        self._to_read = list(paths)
        self._render()
        self._read_next()

    def _read_next(self) -> None:
        if self._to_read:
            line = self._runs.line(self._to_read[0])
            self._reader.ask(self._readings.read, self._to_read[0], line.name if line else "")
        elif any(not record.state.phase.is_over for record in self._records.values()):
            self._again.start()

    def _on_runs_changed(self) -> None:
        """Offer the runs that are there now, and call those that are compared as their user does now."""
        names = {path: line.name for path in self._records if (line := self._runs.line(path))}
        renamed = {path: name for path, name in names.items() if name != self._records[path].name}
        self._records |= {path: replace(self._records[path], name=name) for path, name in renamed.items()}
        self._render_choices()
        if renamed:
            self._render()

    def _on_reader_answered(self, record: RunRecord) -> None:
        path = self._to_read.pop(0)
        line = self._runs.line(path)  # as it is called by now
        self._records[path] = replace(record, name=line.name) if line else record
        self._render()
        self._read_next()

    def _on_reader_failed(self, error: StudioError) -> None:
        path = self._to_read.pop(0)
        self._chosen = tuple(item for item in self._chosen if item != path)
        self._records.pop(path, None)
        self._page.show_error(error)
        self._render_choices()
        self._render()
        self._read_next()

    def _render(self) -> None:
        known = [self._records[path] for path in self._chosen if path in self._records]
        self._page.render_records(known, len(self._chosen) - len(known))

    def _render_choices(self) -> None:
        offered = [line for line in self._runs.lines if not line.problem]
        offered = [line for index, line in enumerate(offered) if index < _MOST_OFFERED or line.path in self._chosen]
        self._page.render_choices([(line.path, f"{line.name} · {line.model}") for line in offered], self._chosen)
