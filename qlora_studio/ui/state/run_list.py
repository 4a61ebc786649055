"""The list of all runs as the window knows it, read beside the event loop."""

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.run_line import KnownRuns, RunLine
from qlora_studio.ui.state.studio import Studio

_SETTLE_MILLISECONDS = 700


class RunsList(QObject):
    """Reads the runs when asked, and a moment after something changed. While `is_reading`, there may be others by now.

    Signals:
        changed: the list was read again, or could not be.
    """

    changed = Signal()

    def __init__(self, studio: Studio) -> None:
        super().__init__(studio)
        self.lines: tuple[RunLine, ...] = ()
        self.is_reading = False
        self._studio = studio
        self._known = KnownRuns()
        self._reader = Background(self)
        self._reader.answered.connect(self._on_reader_answered)
        self._reader.failed.connect(studio.failed)
        self._reader.failed.connect(self._on_reader_failed)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(_SETTLE_MILLISECONDS)
        self._settle.timeout.connect(self.refresh)
        studio.settings_changed.connect(lambda _settings: self.refresh())
        studio.trusted.connect(self.refresh)

    def refresh(self) -> None:
        """Read the list again."""
        self.is_reading = True
        self._reader.ask(self._known.look, self._studio.settings.runs_path)

    def refresh_soon(self) -> None:
        """Read it once, for however many changes within a moment."""
        if not self._settle.isActive():
            self._settle.start()

    def with_adapter(self) -> tuple[RunLine, ...]:
        """Return the runs that can be exported and talked to."""
        return tuple(line for line in self.lines if line.has_adapter and not line.problem)

    def line(self, path: str) -> RunLine | None:
        """Return the run of a folder."""
        return next((line for line in self.lines if line.path == path), None)

    def _on_reader_answered(self, lines: list[RunLine]) -> None:
        self._tell(tuple(lines))

    def _on_reader_failed(self) -> None:
        self._tell(self.lines)

    def _tell(self, lines: tuple[RunLine, ...]) -> None:
        self.lines, self.is_reading = lines, False
        self.changed.emit()
