"""Conversations that are one text, as glaive's function calling has them: USER: … ASSISTANT: … FUNCTION RESPONSE: …"""

import json
import re
from collections.abc import Mapping
from typing import Any

from qlora_studio.core.data.row_notes import RowNotes
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.tool_call import function_schema, tool_call
from qlora_studio.core.data.values import text_of
from qlora_studio.core.foreign_text import DEEPEST, depth_of
from qlora_studio.core.words import say

_SPEAKER = re.compile(r"(?:^|\n)[^\S\n]*(USER|ASSISTANT|FUNCTION RESPONSE):")
_ROLES = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}
_END = "<|endoftext|>"
_CALL = "<functioncall>"
_ARGUMENTS = re.compile(r"""("arguments":\s*)'""")


def is_glaive(record: Mapping[str, Any]) -> bool:
    """Whether a record is a conversation in one text."""
    chat = record.get("chat")
    return isinstance(chat, str) and "USER:" in chat and "ASSISTANT:" in chat


def glaive_messages(chat: Any, notes: RowNotes) -> list[dict[str, Any]]:
    """Return the messages of the text. Raises RowRefused."""
    start, *pieces = _SPEAKER.split(text_of(chat, "'chat'", notes))
    if start.strip():
        raise RowRefused(say("'chat' does not begin with who speaks"))
    return [
        _message(role, text.replace(_END, "").strip(), notes) for role, text in zip(*[iter(pieces)] * 2, strict=True)
    ]


def glaive_tools(system: str) -> tuple[str, tuple[dict[str, Any], ...]]:
    """Return the system text and the functions that stand behind it, one JSON object after another."""
    text, brace, rest = system.removeprefix("SYSTEM:").strip().partition("{")
    rest, at, tools = (brace + rest).rstrip(), 0, []
    while at < len(rest):
        try:
            function, end = json.JSONDecoder().raw_decode(rest, at)
        except (ValueError, RecursionError):
            return system.removeprefix("SYSTEM:").strip(), ()
        if depth_of(function) > DEEPEST:
            return system.removeprefix("SYSTEM:").strip(), ()
        tools.append(function_schema(function))
        at = end
        while at < len(rest) and rest[at].isspace():
            at += 1
    return text.strip(), tuple(tools)


def _message(speaker: str, text: str, notes: RowNotes) -> dict[str, Any]:
    message: dict[str, Any] = {"role": _ROLES[speaker], "content": text}
    if _CALL in text and message["role"] == "assistant":
        said, _, call = text.partition(_CALL)
        quiet = RowNotes(notes.reading)
        call = _as_json(call.strip())
        message |= {"content": said.strip(), "tool_calls": [tool_call(call, "'chat'", "chat.", quiet)]}
    return message


def _as_json(call: str) -> str:
    """Return a call whose arguments are JSON text between quotes that JSON does not have, as JSON has it."""
    begun, ended = _ARGUMENTS.search(call), call.removesuffix("}").rstrip()
    if begun is None or not call.endswith("}") or not ended.endswith("'") or len(ended) <= begun.end():
        return call
    return call[: begun.end() - 1] + json.dumps(ended[begun.end() : -1]) + "}"
