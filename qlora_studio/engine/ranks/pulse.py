"""How machines that train together notice each other's end: each says again and again that it is there, in a thread.

What ended one of them is told there too. A network that is cut is silent, and no call that waits on it ever returns.
"""

import threading
import time
from collections.abc import Sequence

from pydantic import ValidationError

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.events import Failed
from qlora_studio.core.words import say
from qlora_studio.engine.ranks.meeting import Meeting

SILENT_SECONDS = 30.0  # after which a machine is taken for gone
_BEAT_SECONDS = 1.0


class Pulse(threading.Thread):
    """Tells that machine `own` is there, and knows why one of the `others` is not, once that is so."""

    def __init__(self, meeting: Meeting, own: int, others: Sequence[int]) -> None:
        super().__init__(name="pulse", daemon=True)
        self._store = meeting.store()  # a connection of its own: what waits on another one does not hold this up
        self._own = own
        self._ended = threading.Event()
        self._told: StudioError | None = None
        self.is_over = False  # by the word of machine 0
        now = time.monotonic()
        self._counts, self._heard = dict.fromkeys(others, 0), dict.fromkeys(others, now)

    def run(self) -> None:
        """Beat until ended, or until the other end is gone."""
        while not self._ended.wait(_BEAT_SECONDS) and self._told is None:
            try:
                self._beat()
            except (RuntimeError, ValidationError):  # torch's DistError is one: nobody is there any more
                self._told = None if self.is_over else _gone(next(iter(self._counts)))
                return

    @property
    def cause(self) -> StudioError | None:
        """Why another machine is not there any more; costs nothing."""
        if self._told is not None or self._ended.is_set():
            return self._told
        limit = time.monotonic() - SILENT_SECONDS
        silent = next((number for number, heard in self._heard.items() if heard < limit), None)
        return None if silent is None else _gone(silent)

    def end(self) -> None:
        """Beat no more. A thread that waits for a network that is cut is left to the process's end."""
        self._ended.set()
        if self.is_alive():
            self.join(2 * _BEAT_SECONDS)

    def _beat(self) -> None:
        self._store.add(f"pulse/{self._own}", 1)
        self.is_over = self.is_over or self._store.check(["ended"])
        for number in self._counts:
            if self._store.check([f"failed/{number}"]):
                failed = Failed.model_validate_json(self._store.get(f"failed/{number}"))
                self._told = _said(number, failed)
                self._store.set(f"left/{self._own}", "")  # that one waits for this word, and for no other
            count = self._store.add(f"pulse/{number}", 0)
            if count != self._counts[number] or self._store.check([f"left/{number}"]):
                self._counts[number], self._heard[number] = count, time.monotonic()


def _said(number: int, failed: Failed) -> StudioError:
    words = say("Machine {number}: {message}", number=number, message=failed.message)
    return StudioError(words, kind=failed.kind, advice=failed.advice, detail=failed.detail)


def _gone(number: int) -> StudioError:
    return StudioError(
        say("Machine {number} is gone: nothing is heard of it any more.", number=number),
        kind=FailureKind.WORKER_DIED,
        advice=say(
            "See whether it and the network between are up. Then resume the run on machine 0, and start the others as "
            "before: it goes on from its last safe checkpoint."
        ),
    )
