"""What is told to whom: results to stdout, everything else to stderr; with --json, one object is all of stdout."""

import json
import sys
from typing import Any

from qlora_studio.core.errors import StudioError


class Console:
    """The two streams of a command."""

    def __init__(self, *, json: bool = False, details: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.details = details
        self.quiet = quiet

    @property
    def shows_progress(self) -> bool:
        """Whether a bar that moves can be drawn."""
        return not self.quiet and sys.stderr.isatty()

    def say(self, text: str = "") -> None:
        """Print a line for people who wait: to stderr, and not with --quiet."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def result(self, text: str = "", *, end: str = "\n") -> None:
        """Print a line of the result for people; nothing with --json."""
        if not self.json:
            print(text, end=end, flush=True)

    def report(self, data: dict[str, Any]) -> None:
        """Print the result for programs; nothing without --json."""
        if self.json:
            print(json.dumps(data, ensure_ascii=False), flush=True)

    def fail(self, error: StudioError, **facts: Any) -> int:
        """Print what went wrong and what to do, and return the exit code for it."""
        print(error.message, file=sys.stderr)
        if error.advice:
            print(error.advice, file=sys.stderr)
        if error.detail:
            self._tell_details(error.detail)
        told = {"kind": error.kind, "message": error.message, "advice": error.advice}
        self.report({**facts, "error": told})
        return error.kind.exit_code

    def _tell_details(self, detail: str) -> None:
        if self.details:
            print(f"\n{detail.rstrip()}", file=sys.stderr)
        else:
            print("(--details shows more.)", file=sys.stderr)
