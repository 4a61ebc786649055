"""One thing to learn from, in the one shape that everything behind the reader knows: a conversation, or raw text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

_UPPER = bytes(range(ord("A"), ord("Z") + 1))
_LOWER_TABLE = bytes.maketrans(_UPPER, _UPPER.lower())
_NOT_ALPHANUMERIC = bytes(code for code in range(1, 128) if not chr(code).isalnum())


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation in `messages`, or raw text in `text`; never both.

    Every message has `role` (system, user, assistant, tool) and `content`, a str. It may have `name`, `tool_call_id`,
    `reasoning_content`, `thinking`, `reasoning` (str) and `tool_calls`, a list of
    `{"type": "function", "function": {"name": str, "arguments": dict}}`. `trained` says whether the row marks the turn
    as one to be learned; without it, answers are learned and all else is not. `tools` are the JSON schemas of the
    functions that the conversation may call, `variables` what the row sets of the template's variables.
    """

    messages: tuple[dict[str, Any], ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    text: str | None = None
    variables: Mapping[str, Any] | None = None

    def key(self) -> bytes:
        """Return 16 bytes that are equal for equal examples, in every process and on every machine."""
        return _key(self._parts())

    def short_key(self) -> str:
        """Return the key that a person sees, and that `data.exclude` names."""
        return self.key()[:8].hex()

    def near_key(self) -> bytes:
        """Return 16 bytes that are equal where only letter case, ASCII white space or ASCII punctuation differ."""
        return _near_key(self._parts())

    def keys(self) -> tuple[bytes, bytes]:
        """Return both keys."""
        parts = self._parts()
        return _key(parts), _near_key(parts)

    def first_words(self) -> str:
        """Return how it begins, in one line: what is said first behind a system message."""
        spoken = [message for message in self.messages if message["role"] != "system"]
        text = self.text if self.text is not None else str(spoken[0]["content"]) if spoken else ""
        return " ".join(text[:400].split())[:120]

    def _parts(self) -> list[str]:
        if self.text is not None:
            return ["text", self.text]
        parts: list[str] = []
        for message in self.messages:
            parts.append(message["role"])
            parts.append(message["content"])
            if len(message) > 2:
                more = {name: value for name, value in message.items() if name not in ("role", "content")}
                parts.append(json.dumps(more, sort_keys=True))
        if self.tools:
            parts.append(json.dumps(self.tools, sort_keys=True))
        if self.variables:
            parts.append(json.dumps(self.variables, sort_keys=True))
        return parts


def _key(parts: list[str]) -> bytes:
    return blake2b("".join([f"{len(part)}:{part}" for part in parts]).encode(), digest_size=16).digest()


def _near_key(parts: list[str]) -> bytes:
    text = "\x00".join(parts)
    if text.isascii():
        plain = text.encode().translate(_LOWER_TABLE, _NOT_ALPHANUMERIC)
    else:
        plain = text.casefold().encode().translate(None, _NOT_ALPHANUMERIC)
    return blake2b(plain, digest_size=16).digest()
