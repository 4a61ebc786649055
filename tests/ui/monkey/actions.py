"""What the monkey does: actions that are drawn from a seed alone, and mean something at any window.

An action is a word and three numbers from 0 to 1. Which button "0.37" is depends on the buttons that are there, so any
part of a sequence can be played by itself: that is how a failing one is made shorter.
"""

import random
from typing import NamedTuple

WEIGHTS = {
    "use": 30,  # click something that can be used, wherever on the page it is
    "point": 8,  # click anywhere
    "double": 2,
    "menu": 2,  # the right button
    "key": 22,
    "type": 4,
    "fill": 10,  # a field, with something that could stand in it
    "paste": 3,
    "drop": 5,
    "drag": 4,
    "wheel": 6,
    "page": 4,
    "resize": 3,
    "theme": 2,
    "hide": 0.5,
    "begin_run": 1.5,
    "open_run": 2,
    "kill_run": 1.5,
    "remove_run": 0.3,
    "damage_run": 0.3,
    "rest": 6,
    "close": 0.1,
}


class Action(NamedTuple):
    """A word of WEIGHTS and three numbers."""

    kind: str
    a: float
    b: float
    c: float

    def __str__(self) -> str:
        return f"{self.kind} {self.a:.4f} {self.b:.4f} {self.c:.4f}"


def drawn(seed: int, count: int) -> list[Action]:
    """Return the actions of a seed; fewer are the beginning of more."""
    dice = random.Random(seed)
    kinds, weights = [*WEIGHTS], [*WEIGHTS.values()]
    return [Action(dice.choices(kinds, weights)[0], *(round(dice.random(), 4) for _ in range(3))) for _ in range(count)]
