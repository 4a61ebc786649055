"""Held-out answers that a model is asked for anew, to see whether it ends them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qlora_studio.engine.verification import measurement
from qlora_studio.engine.verification.measurement import Rows

_ASKED = 4
_MOST_TOKENS = 64  # of an answer that is asked for
_ROOM = 16  # tokens beyond the length of the held-out one


@dataclass(frozen=True)
class EndedAnswer:
    """A row up to where its last answer begins, and how long a model may answer."""

    prompt: tuple[int, ...]
    tokens: int

    def ends_in(self, model: Any, stops: Sequence[int]) -> bool:
        """Return whether a model's greedy answer ends."""
        answer = measurement.greedy(model, self.prompt, stops, tokens=self.tokens)
        return bool(answer) and answer[-1] in stops


def ended_answers(rows: Rows, stops: Sequence[int]) -> list[EndedAnswer]:
    """Return the shortest held-out answers that end: those that a model gives in a moment."""
    found = []
    for ids, labels in rows.rows:
        last = max((place for place, label in enumerate(labels) if label in stops), default=-1)
        first = last
        while first > 0 and labels[first - 1] != -100:
            first -= 1
        if first > 0:
            found.append((last - first, EndedAnswer(ids[:first], min(_MOST_TOKENS, last - first + _ROOM))))
    return [answer for _, answer in sorted(found, key=lambda item: item[0])[:_ASKED]]
