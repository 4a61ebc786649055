"""What plots show, as values: named series, marks, and how several of them are told apart. Pure; no Qt."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from qlora_studio.core.run.metric_history import Floats
from qlora_studio.core.words import say

Line = Literal["solid", "dash", "dot", "dash-dot"]
MarkShape = Literal["line", "triangle", "diamond"]

# Colours of Okabe and Ito that stand apart on both themes, and a line for each, so that no colour says it alone.
_TOKENS = ("weights", "logits", "optimizer", "other", "activations", "adapter", "context")
_LINES: tuple[Line, ...] = ("solid", "dash", "dash-dot", "dot")


@dataclass(frozen=True, eq=False)
class Curve:
    """A named series: x (not falling) and y, shape (n,); NaN is a gap. `token` names a colour of the theme.

    Where `smooth`, shape (n,), is given, it is drawn strong and the values themselves thin behind it. `rings` draws a
    ring at each value.
    """

    name: str
    x: Floats
    y: Floats
    token: str = "weights"
    line: Line = "solid"
    smooth: Floats | None = None
    rings: bool = False


@dataclass(frozen=True)
class Mark:
    """Something that happened at an x: a line across with a label, a triangle below, a diamond at a height.

    `words` are told when the pointer comes near. Marks of one `kind` share a place in the legend; without a kind a
    mark has none. `faint` lines are dotted: the grid of the matter rather than an event.
    """

    x: float
    words: str
    shape: MarkShape = "line"
    label: str = ""
    kind: str = ""
    token: str = "warn"
    y: float = 0.0
    faint: bool = False


@dataclass(frozen=True, eq=False)
class Plot:
    """One pair of axes with its curves and marks. The x axis reaches `end` at least.

    `x_title` is what x counts; `whole` says that it counts in whole numbers. `place` says in words where an x is, in
    lines, the first the most important. Curves of the names in `hidden` stand in the legend alone.
    """

    title: str
    curves: tuple[Curve, ...]
    unit: str = ""
    marks: tuple[Mark, ...] = ()
    end: float = 0.0
    log: bool = False
    x_title: str = say("step")
    whole: bool = True
    nothing: str = say("Nothing to draw yet.")
    place: Callable[[float], tuple[str, ...]] | None = None
    hidden: frozenset[str] = frozenset()

    @property
    def shown(self) -> tuple[Curve, ...]:
        """The curves that are drawn. A single one always is: it has no entry in the legend to bring it back by."""
        if len(self.curves) < 2:
            return self.curves
        return tuple(curve for curve in self.curves if curve.name not in self.hidden)

    @cached_property
    def is_empty(self) -> bool:
        """Whether no curve has a value."""
        return not any((curve.y == curve.y).any() for curve in self.curves)


def look(index: int) -> tuple[str, Line]:
    """Return colour and line of one of several curves: another pair for each of the first 28."""
    again, place = divmod(index, len(_TOKENS))
    return _TOKENS[place], _LINES[(place + again) % len(_LINES)]
