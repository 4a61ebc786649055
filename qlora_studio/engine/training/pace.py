"""The tokens and seconds of a step, without what is done between steps."""

import time


class Pace:
    """Tokens and seconds of the current step; pauses are left out."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._tokens = 0

    def add(self, tokens: int) -> None:
        """Count tokens of the current step."""
        self._tokens += tokens

    def pause(self, started: float) -> float:
        """Leave out what lasted since then; return its seconds."""
        seconds = time.monotonic() - started
        self._since += seconds
        return seconds

    def restart(self) -> None:
        """Begin a step now."""
        self._since = time.monotonic()

    def take(self) -> tuple[float, int]:
        """Return the seconds and tokens of the step that ends now."""
        now = time.monotonic()
        seconds, self._since = max(now - self._since, 1e-9), now
        tokens, self._tokens = self._tokens, 0
        return seconds, tokens
