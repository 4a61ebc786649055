"""The reasoning of a turn, under the names that datasets have for it."""

from typing import Any

from qlora_studio.core.data.row_notes import Fields, RowNotes
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.values import kind_of
from qlora_studio.core.words import say

# The names that transformers hands reasoning to templates by: what stands under them stays there.
_KNOWN_KEYS = ("reasoning_content", "thinking", "reasoning")
# OpenRouter's details come beside the text, or in its place.
_OTHER_KEYS = (
    "reasoning_text",
    "thinking_content",
    "thoughts",
    "thought",
    "thinking_blocks",
    "reasoning_details",
)
REASONING_KEYS = frozenset({*_KNOWN_KEYS, *_OTHER_KEYS})
_PART_KEYS = ("text", "thinking", "summary", "reasoning", "content")


def reasoning_of(turn: Fields, what: str, notes: RowNotes) -> dict[str, str]:
    """Return the reasoning of a turn by the keys that templates know it by. Raises RowRefused naming `what`."""
    found = {key: _text(value, key, what) for key in _KNOWN_KEYS if (value := turn.get(key)) is not None}
    if any(found.values()):
        return found
    for key in _OTHER_KEYS:
        if (value := turn.get(key)) is not None and (text := _text(value, key, what)):
            notes.repaired(f"read {key} as reasoning_content")
            return {"reasoning_content": text}
    return found


def _text(value: Any, key: str, what: str) -> str:
    """Return reasoning as one text: as it stands, or of the parts in which it does."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str | dict) for part in value):
        return "".join(part if isinstance(part, str) else _part_text(part) for part in value)
    if isinstance(value, dict):
        return _part_text(value)
    raise RowRefused(say("{what}: {key} {kind_of}, not text", what=what, key=key, kind_of=kind_of(value)))


def _part_text(part: dict[str, Any]) -> str:
    return next((text for key in _PART_KEYS if isinstance(text := part.get(key), str)), "")
