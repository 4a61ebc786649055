"""What the window knows of one run, or of another job: the state and the metric series of its events."""

import time
from collections import deque
from collections.abc import Sequence

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.events import CheckpointSaved, Event
from qlora_studio.core.run.metric_history import MetricHistory
from qlora_studio.core.run.run_state import RunState, fold
from qlora_studio.storage.run_care.run_label import name_of
from qlora_studio.storage.runs.run_folder import RunFolder

_AT_ONCE = 256  # events, which take about a millisecond
_TURN_SECONDS = 0.01  # of applying events, between which the window answers
_PACE_SECONDS = 0.1  # between two times that a run at work tells: nobody reads faster
_TELL_SECONDS = 0.5  # until a replay tells again, and from then on twice as long each time: all curves are drawn


class RunStore(QObject):
    """Applies events in their order. Live view and replay are the same calls. `name` is what its user calls the run.

    Signals:
        changed: state or history are others now; once per batch.
        events_applied: the batch itself, for those who follow a stream such as a chat's words.
    """

    changed = Signal()
    events_applied = Signal(tuple)

    def __init__(self) -> None:
        super().__init__()
        self.folder: RunFolder | None = None
        self.config: RunConfig | None = None
        self.name = ""
        self.state = RunState()
        self.history = MetricHistory()
        self.checkpoints: tuple[int, ...] = ()
        self._waiting: deque[Event] = deque()
        self._told, self._patience = 0.0, _TELL_SECONDS
        self._more = QTimer(self)
        self._more.setInterval(0)
        self._more.timeout.connect(self._apply_some)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._tell)

    def open(self, folder: RunFolder | None, config: RunConfig | None = None) -> None:
        """Begin anew with another folder, before its events come."""
        self.forget()
        self.folder, self.config = folder, config
        self.name = name_of(folder, config) if folder and config else ""
        self.state, self.history = RunState(), MetricHistory()
        self.checkpoints = ()
        self.changed.emit()

    def look_at_name(self) -> None:
        """See whether the run is called otherwise now: by this window, another one, or the command line."""
        if self.folder and self.config and (name := name_of(self.folder, self.config)) != self.name:
            self.name = name
            self.changed.emit()

    def take(self, events: tuple[Event, ...]) -> None:
        """Apply events bit by bit where there are many: a replay has thousands, and the window answers meanwhile."""
        self._waiting.extend(events)
        if not self._more.isActive():
            self._apply_some()

    def forget(self) -> None:
        """Let go of what was taken and not applied yet."""
        self._waiting.clear()
        self._more.stop()
        self._later.stop()

    def _apply_some(self) -> None:
        until, before = time.monotonic() + _TURN_SECONDS, self.state.phase
        some: list[Event] = []
        while self._waiting and (not some or time.monotonic() < until):
            next_ones = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
            self._apply(next_ones)
            some += next_ones
        if self._waiting:
            self._more.start()
        else:
            self._more.stop()
        self.events_applied.emit(tuple(some))
        waited = time.monotonic() - self._told
        if not self._waiting and (len(some) < _AT_ONCE or self.state.phase.is_over):
            self._patience = _TELL_SECONDS
            self._tell_in_time(waited, at_once=self.state.phase is not before or self.state.phase.is_over)
        elif waited > self._patience:
            self._patience *= 2
            self._tell()
        elif not self._waiting:
            self._later.start(int(1000 * (self._patience - waited)))

    def _tell_in_time(self, waited: float, *, at_once: bool) -> None:
        if at_once or waited >= _PACE_SECONDS:
            self._tell()
        elif not self._later.isActive():
            self._later.start(round(1000 * (_PACE_SECONDS - waited)))

    def _tell(self) -> None:
        self._told = time.monotonic()
        self._later.stop()
        self.changed.emit()

    def _apply(self, events: Sequence[Event]) -> None:
        self.state = fold(self.state, events)
        self.history.extend(events)
        self.checkpoints += tuple(event.step for event in events if type(event) is CheckpointSaved)
