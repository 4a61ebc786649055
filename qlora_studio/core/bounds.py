"""What a number, a time or a text in a message can be at all. What lies beyond is damage, or somebody's trick.

Whoever shows a run counts in 32 bits, writes times as dates and lays sentences out: nothing else ever reaches it.
"""

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

_LATEST = 32_503_680_000.0  # the year 3000, where some systems' calendars end
_LONGEST = 1e10  # seconds: three hundred years, and a date when they are added to now
_LARGEST = 1e100
_MOST_LETTERS = 100_000

Moment = Annotated[float, Field(ge=0, le=_LATEST, allow_inf_nan=False)]
"""Seconds since the epoch."""
Seconds = Annotated[float, Field(ge=0, le=_LONGEST, allow_inf_nan=False)]
"""How long something takes."""
Count = Annotated[int, Field(ge=0, le=(1 << 31) - 1)]
"""Steps, rows, files: what is counted in 32 bits."""
Amount = Annotated[int, Field(ge=0, lt=1 << 63)]
"""Bytes, tokens, parameters."""
Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]
"""A rate, a share, a weight."""

Energy = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
"""Joules: what a thousand cards take in decades is less."""


def _measured(value: Any) -> Any:
    return None if isinstance(value, float) and not (math.isfinite(value) and abs(value) <= _LARGEST) else value


Measured = Annotated[float | None, BeforeValidator(_measured)]
"""A loss or a norm: None where it was not measured, or came out as no number."""


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]} …"


Words = Annotated[str, AfterValidator(_cut)]
"""A name, a sentence or a traceback; one that nobody could read to its end is cut."""
Names = Annotated[list[Words], Field(max_length=100_000)]
"""Several of them, such as the modules that are trained."""
PathText = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
"""A path as the system can take it."""
