"""What the palette offers, as values: actions and settings by name, and which of them a few letters mean."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """Something to do or to go to. `note` is its keys or its value; `words` are searched too, and not shown."""

    title: str
    where: str
    run: Callable[[], object] = field(compare=False)
    note: str = ""
    words: str = ""


def matching(entries: Iterable[Entry], query: str) -> tuple[Entry, ...]:
    """Return what has every word of a query, the best first; without a query, all as they come."""
    asked = query.lower().split()
    ranked = [(rank, entry) for entry in entries if (rank := _rank(entry, asked)) is not None]
    return tuple(entry for _, entry in sorted(ranked, key=lambda item: item[0]))


def grouped(entries: Iterable[Entry]) -> tuple[tuple[str, tuple[Entry, ...]], ...]:
    """Return the entries by the places where they are, in the order in which each place comes first."""
    places: dict[str, list[Entry]] = {}
    for entry in entries:
        places.setdefault(entry.where, []).append(entry)
    return tuple((where, tuple(those)) for where, those in places.items())


def without_twins(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return each name of a place once, the first."""
    first: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        first.setdefault((entry.title, entry.where), entry)
    return tuple(first.values())


def _rank(entry: Entry, asked: list[str]) -> int | None:
    """0 where the name begins so, then where a word of it does, then anywhere in it, in its place, in its help."""
    title, where = entry.title.lower(), entry.where.lower()
    if not all(word in f"{title} {where} {entry.words.lower()}" for word in asked):
        return None
    query = " ".join(asked)
    tests = (title.startswith(query), f" {query}" in title, all(word in title for word in asked))
    found = [number for number, test in enumerate(tests) if test]
    return found[0] if found else 3 if all(word in f"{title} {where}" for word in asked) else 4
