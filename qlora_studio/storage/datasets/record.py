"""One row as its container holds it, before anyone asks what it means."""

from collections.abc import Iterable
from typing import Any, NamedTuple

ROW_LIMIT = 64 << 20
RAW_LIMIT = 20_000


class Record(NamedTuple):
    """`value` is the row's object where `fault` is empty. `line` counts from 1, `offset` is in bytes."""

    line: int
    offset: int
    value: dict[str, Any]
    fault: str
    raw: str


def too_long(limit: int) -> str:
    """Return the fault of a row beyond the limit of bytes."""
    return f"the row is longer than {limit >> 20} MiB" if limit >= 1 << 20 else f"the row is longer than {limit} bytes"


def first_twice(names: Iterable[str]) -> str | None:
    """Return the first of the names that stands there a second time, or None."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]
