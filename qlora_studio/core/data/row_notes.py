"""How rows are to be read, and what reading one comes to beside its example: what was changed, and what nobody read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

_ROLE_NAMES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Reading:
    """What the user says of the columns (`data.mapping`), and the keys of a message that the chat template reads."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    template_keys: frozenset[str] = frozenset()

    @cached_property
    def roles(self) -> dict[str, str]:
        """The roles of names that the mapping gives, several separated by commas."""
        return {
            name.strip(): role
            for role in _ROLE_NAMES
            for name in self.mapping.get(f"{role}_role", "").split(",")
            if name.strip()
        }


class RowNotes:
    """What is noted while a row is read: repairs in words, and the keys that nobody asked for, as paths."""

    __slots__ = ("reading", "repairs", "turn_tools", "unread")

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.repairs: dict[str, None] = {}
        self.unread: dict[str, None] = {}
        self.turn_tools: tuple[Any, ...] = ()  # that turns bring themselves

    def repaired(self, words: str) -> None:
        """Note a change, once."""
        self.repairs[words] = None

    def left(self, fields: "Fields", path: str = "") -> None:
        """Note what nobody asked for of an object that stands at a path."""
        if fields.may_be_unread:
            for name in fields.unread():
                self.unread[path + name] = None


class Fields:
    """An object of a row that knows what was asked for: nothing of it gets lost without a word."""

    __slots__ = ("_asked", "values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self._asked: set[str] = set()

    def get(self, name: str) -> Any:
        """Return a value, None where there is none."""
        if (value := self.values.get(name)) is not None:
            self._asked.add(name)
        return value

    def first(self, *names: str) -> Any:
        """Return the first of several values that says something, else None; those after it are not asked for."""
        return next((value for name in names if not is_nothing(value := self.get(name))), None)

    def __contains__(self, name: object) -> bool:
        return name in self.values

    @property
    def may_be_unread(self) -> bool:
        """Whether there is more than was asked for; most objects hold nothing else."""
        return len(self._asked) < len(self.values)

    def unread(self) -> Iterator[str]:
        """Yield the names of what says something and was not asked for."""
        for name, value in self.values.items():
            if name not in self._asked and not is_nothing(value):
                yield name


def is_nothing(value: Any) -> bool:
    """Whether a value is null, or an empty text, list or object."""
    return value is None or value in ("", [], {})
