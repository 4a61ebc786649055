"""How long plots draw in one turn of the event loop: where several are long, each waits for a turn of its own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from PySide6.QtCore import QTimer

_SECONDS = 0.02  # after which no other plot begins in this turn


class DrawingTime:
    """Counts what was drawn in this turn."""

    def __init__(self) -> None:
        self._spent = 0.0

    def is_over(self) -> bool:
        """Return whether the rest is for the next turn."""
        return self._spent >= _SECONDS

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is drawn within."""
        began = time.perf_counter()
        yield
        if not self._spent:
            QTimer.singleShot(0, self._begin_anew)
        self._spent += time.perf_counter() - began

    def _begin_anew(self) -> None:
        self._spent = 0.0


DRAWING_TIME = DrawingTime()
