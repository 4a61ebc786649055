"""A row of a small table, as a value."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ValueRow:
    """A name and its values. `note` stands behind them, in the accent's colour."""

    name: str
    values: tuple[str, ...]
    note: str = ""
