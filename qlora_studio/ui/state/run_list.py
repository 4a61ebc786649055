"""The list of all runs as the window knows it, read beside the event loop."""

import math
import time
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.run_line import KnownRuns, RunLine
from qlora_studio.ui.state.studio import Studio

_SETTLE_MILLISECONDS = 700
_SHARE = 20  # of the time, at most one part of so many goes into looking


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
        self._place, self._again = Path(), False
        self._studio = studio
        self._known = KnownRuns()
        self._began, self._next = 0.0, 0.0
        self._looker = Background(self)  # what it cannot read is told when the list is asked for
        self._looker.answered.connect(self._on_looked)
        self._looker.failed.connect(self._on_not_looked)
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
        """Read the list again; while it is being read, once more after that, and not beside it."""
        place = self._studio.settings.runs_path
        self._looker.forget()
        self._next = 0.0
        self._again = self.is_reading and place == self._place
        if not self._again:
            self.is_reading, self._place = True, place
            self._reader.ask(self._known.look, place)

    def refresh_soon(self) -> None:
        """Read it once, for however many changes within a moment."""
        if not self._settle.isActive():
            self._settle.start()

    def look(self) -> None:
        """See whether the runs are others by now, or stand otherwise: another window or a command may work on them."""
        if not self.is_reading and time.monotonic() >= self._next:
            self._began = time.monotonic()
            self._next = math.inf
            self._looker.ask(self._known.look, self._studio.settings.runs_path)

    def with_adapter(self) -> tuple[RunLine, ...]:
        """Return the runs that can be exported and talked to."""
        return tuple(line for line in self.lines if line.has_adapter and not line.problem)

    def line(self, path: str) -> RunLine | None:
        """Return the run of a folder."""
        return next((line for line in self.lines if line.path == path), None)

    def _on_reader_answered(self, lines: list[RunLine]) -> None:
        self._tell(tuple(lines))

    def _on_looked(self, lines: list[RunLine]) -> None:
        now = time.monotonic()
        self._next = now + _SHARE * (now - self._began)
        if tuple(lines) != self.lines:
            self._tell(tuple(lines))

    def _on_not_looked(self) -> None:
        self._next = 0.0

    def _on_reader_failed(self) -> None:
        self._tell(self.lines)

    def _tell(self, lines: tuple[RunLine, ...]) -> None:
        self.lines, self.is_reading = lines, False
        if self._again:
            self.refresh()
        self.changed.emit()
