"""The events of a run or of another job, read as they come; what could not be read of them is told as an event."""

from pathlib import Path

from qlora_studio.core.errors import NewerVersion
from qlora_studio.core.run.events import (
    UNREADABLE_LINES,
    Event,
    Failed,
    Finished,
    Paused,
    Warned,
    WorkerStarted,
    parse_event,
)
from qlora_studio.core.run.message import DamagedLine
from qlora_studio.storage.runs.message_log import Bookmark, MessageLogReader

_BOUNDS = frozenset((WorkerStarted, Finished, Failed, Paused))  # of a session
_HEAD = 200  # bytes of a line in which its kind stands


class EventLog(MessageLogReader[Event]):
    """Reads events. Raises NewerVersion besides, where a later version told them.

    All of a session is of one version: a line within it that says it is of a later one is damaged.
    """

    def __init__(self, path: Path, *, offset: int = 0, bounded: bool = True) -> None:
        super().__init__(path, self._event, offset=offset, bounded=bounded)
        self._in_session = False
        self._last: Event | None = None
        self._told = ""

    def new_damage(self) -> Warned | None:
        """Return what could not be read so far, where that is more than was returned before."""
        if self.damage == self._told:
            return None
        self._told = self.damage
        return Warned(kind=UNREADABLE_LINES, message=self.damage, time=self._last.time if self._last else 0.0)

    def bookmark(self) -> Bookmark | None:
        """Return how far it was read; None where that cannot be said shortly."""
        mark = super().bookmark()
        return mark and mark.model_copy(update={"in_session": self._in_session})

    def go_to(self, mark: Bookmark) -> bool:
        """Go on from a bookmark, as the reader of a log does."""
        is_there = super().go_to(mark)
        self._in_session = is_there and mark.in_session
        return is_there

    def _event(self, line: bytes) -> Event | None:
        try:
            event = parse_event(line)
        except NewerVersion:
            if self._in_session and b'"worker_started"' not in line[:_HEAD]:
                raise DamagedLine from None
            raise
        if event is not None:
            self._last = event
            if type(event) in _BOUNDS:
                self._in_session = isinstance(event, WorkerStarted)
        return event
