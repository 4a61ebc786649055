"""The reasoning of a turn, under the names that datasets have for it."""

from collections.abc import Mapping
from typing import Any

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.values import Repairs, kind_of

# The names that transformers hands reasoning to templates by: what stands under them stays there.
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
OTHER_REASONING_KEYS = ("reasoning_text", "thinking_content", "thoughts", "thought", "thinking_blocks")
DETAILS = "reasoning_details"  # OpenRouter's, beside the text or in place of it
_PART_KEYS = ("text", "thinking", "summary", "reasoning", "content")


def reasoning_of(turn: Mapping[str, Any], what: str, repairs: Repairs) -> dict[str, str]:
    """Return the reasoning of a turn by the keys that templates know it by. Raises RowRefused naming `what`."""
    found = {key: _text(turn[key], key, what) for key in REASONING_KEYS if turn.get(key) is not None}
    if any(found.values()):
        return found
    for key in (*OTHER_REASONING_KEYS, DETAILS):
        if turn.get(key) is not None and (text := _text(turn[key], key, what)):
            repairs[f"read {key} as reasoning_content"] = None
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
    raise RowRefused(f"{what}: {key} {kind_of(value)}, not text")


def _part_text(part: Mapping[str, Any]) -> str:
    return next((text for key in _PART_KEYS if isinstance(text := part.get(key), str)), "")
