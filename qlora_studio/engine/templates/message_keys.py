"""Which keys of a message a chat template names, and whether what stands under one of them came into the text."""

import re
from collections.abc import Iterator
from typing import Any

from qlora_studio.core.data.row_verdict import ReadRow

_NAMED = re.compile(
    r"""\.(\w+)\b(?!\s*\()|\[\s*['"](\w+)['"]\s*\]|\bget\(\s*['"](\w+)['"]|['"](\w+)['"]\s+(?:not\s+)?in\b"""
)


def message_keys(template: Any) -> frozenset[str]:
    """Return all names by which a template, or one of several, asks objects for a value."""
    sources = template.values() if isinstance(template, dict) else [template]
    return frozenset(
        name for source in sources for names in _NAMED.findall(str(source or "")) for name in names if name
    )


def unused(row: ReadRow, text: str) -> Iterator[str]:
    """Yield the paths of what nothing of a row's text comes from: keys that were kept and are in it are used."""
    for path in row.unread:
        key = path.rpartition("[].")[2]
        messages = row.example.messages if row.example else ()
        kept = [message[key] for message in messages if key in message]
        if not kept or not all(word in text for value in kept for word in _words(value)):
            yield path


def _words(value: Any) -> Iterator[str]:
    """Yield the texts within a value, without the white space around them, which templates trim."""
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _words(part)
