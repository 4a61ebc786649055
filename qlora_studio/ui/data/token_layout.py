"""Where the pieces of a row of tokens stand when they are set in lines. Pure geometry; lengths are pixels."""

import math
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from qlora_studio.core.data.report import TokenPiece
from qlora_studio.ui.kit.text import Run, visible_runs

LINE = 24
PAD, GAP = 3, 1
_SHARED = Run("·", unseen=True)  # a token that has only a part of the character before it
_LINE_END = 18  # kept free for the mark of a line's end
_LONGEST = 400  # characters of one token that are shown in one go
_STRIDE = 64  # tokens between two looks at the clock


@dataclass(frozen=True, slots=True)
class Placed:
    """A stretch of a token on a line, or the label of the row that begins with it."""

    token: int
    line: int
    left: float
    width: float
    run: Run
    indent: float  # of the text, from the left edge
    is_label: bool = False


class TokenLayout:
    """Tokens set in lines of a width. `measure` returns the width of a text.

    A token with a label begins a new line with it. `lazily` sets nothing yet: `go_on` does, for some time.
    """

    def __init__(
        self,
        tokens: Sequence[TokenPiece],
        width: float,
        measure: Callable[[str], float],
        labels: Mapping[int, str] | None = None,
        *,
        lazily: bool = False,
    ) -> None:
        self.placed: list[Placed] = []
        self.done = 0
        self._tokens, self._labels = tokens, labels or {}
        self._width, self._measure = max(width - _LINE_END, 80.0), measure
        self._line, self._left = 0, 0.0
        self._lines: list[int] = []
        if not lazily:
            self.go_on(math.inf)

    @property
    def lines(self) -> int:
        """Lines that are set so far."""
        return self._line + (1 if self._left else 0)

    @property
    def is_complete(self) -> bool:
        """Whether every token is set."""
        return self.done == len(self._tokens)

    def go_on(self, seconds: float, lines: int = 0) -> None:
        """Set more tokens, for about so long, and until there are so many lines."""
        until = time.monotonic() + seconds
        while not self.is_complete:
            last = min(len(self._tokens), self.done + _STRIDE)
            for index in range(self.done, last):
                self._set(index, self._tokens[index])
            self.done = last
            if time.monotonic() >= until and self.lines >= lines:
                return

    def between(self, first: int, last: int) -> Sequence[Placed]:
        """Return what stands on these lines, both included."""
        start = bisect_right(self._lines, first - 1)
        return self.placed[start : bisect_right(self._lines, last)]

    def at(self, x: float, y: float) -> int | None:
        """Return the index of the token at a point."""
        line = int(y // LINE)
        found = [piece for piece in self.between(line, line) if piece.left <= x < piece.left + piece.width + GAP]
        return found[0].token if found else None

    def line_of(self, token: int) -> int:
        """Return the line on which a token begins."""
        index = bisect_left(self.placed, token, key=lambda piece: piece.token)
        return self.placed[index].line if index < len(self.placed) else 0

    def _set(self, index: int, token: TokenPiece) -> None:
        if index in self._labels:
            self._set_label(index, self._labels[index])
        runs = _runs(token.string[:_LONGEST]) if token.string else (_SHARED,)
        whole = sum(self._measure(run.text) for run in runs if not run.ends_line) + 2 * PAD
        if self._left and self._left + whole > self._width:
            self._break()
        for place, run in enumerate(runs):
            for part in self._fitting(run):
                indent = PAD if place == 0 else 0.0
                width = self._measure(part.text) + indent + (PAD if place == len(runs) - 1 else 0)
                if self._left and self._left + width > self._width and not part.ends_line:
                    self._break()
                self._place(Placed(index, self._line, self._left, width, part, indent))
                if part.ends_line:
                    self._break()
        self._left += GAP if self._left else 0

    def _set_label(self, index: int, label: str) -> None:
        if self._left:
            self._break()
        width = self._measure(label) + 2 * PAD
        self._place(Placed(index, self._line, 0.0, width, Run(label), PAD, is_label=True))
        self._left += 2 * PAD

    def _place(self, placed: Placed) -> None:
        self.placed.append(placed)
        self._lines.append(placed.line)
        self._left += placed.width

    def _fitting(self, run: Run) -> list[Run]:
        """A stretch that is wider than a line is cut into several."""
        if self._measure(run.text) + 2 * PAD <= self._width:
            return [run]
        per_line = max(1, int(len(run.text) * (self._width - 2 * PAD) / self._measure(run.text)) - 1)
        return [Run(run.text[at : at + per_line]) for at in range(0, len(run.text), per_line)]

    def _break(self) -> None:
        self._line += 1
        self._left = 0.0


@lru_cache(maxsize=1 << 14)
def _runs(text: str) -> tuple[Run, ...]:
    """Most tokens come again and again."""
    return tuple(visible_runs(text))
