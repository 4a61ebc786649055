"""What the window knows of one run, or of another job: the state and the metric series of its events."""

from PySide6.QtCore import QObject, Signal

from qlora_studio.core.events import CheckpointSaved, Event
from qlora_studio.core.metric_history import MetricHistory
from qlora_studio.core.run_config import RunConfig
from qlora_studio.core.run_state import RunState, reduce
from qlora_studio.storage.run_folder import RunFolder


class RunStore(QObject):
    """Applies events in their order. Live view and replay are the same calls.

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
        self.state = RunState()
        self.history = MetricHistory()
        self.checkpoints: tuple[int, ...] = ()

    def open(self, folder: RunFolder | None, config: RunConfig | None = None) -> None:
        """Begin anew with another folder, before its events come."""
        self.folder, self.config = folder, config
        self.state, self.history = RunState(), MetricHistory()
        self.checkpoints = ()
        self.changed.emit()

    def apply(self, events: tuple[Event, ...]) -> None:
        """Apply a batch of events."""
        for event in events:
            self.state = reduce(self.state, event)
            self.history.apply(event)
            if isinstance(event, CheckpointSaved):
                self.checkpoints = (*self.checkpoints, event.step)
        self.events_applied.emit(events)
        self.changed.emit()
