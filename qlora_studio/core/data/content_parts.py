"""Contents that are lists of parts, as OpenAI, Anthropic, LLaMA-Factory v1 and others write them."""

import json
from dataclasses import dataclass, field
from typing import Any

from qlora_studio.core.data.row_notes import Fields, RowNotes
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.tool_call import tool_call
from qlora_studio.core.data.values import kind_of, number_as_text, shown
from qlora_studio.core.words import say

# What a part of a type is, and the keys that may hold it, first come first served.
_TEXTS = dict.fromkeys(("text", "input_text", "output_text", "refusal"), ("text", "value", "content", "refusal"))
_REASONING = dict.fromkeys(
    ("thinking", "reasoning", "think", "thought"), ("thinking", "reasoning", "text", "value", "content", "summary")
)
_REDACTED = "redacted_thinking"  # Anthropic's reasoning that is encrypted: there is nothing in it to learn
_CALLS = ("tool_use", "tool_call", "function_call", "tool_calls")
_RESULTS = ("tool_result", "tool_response", "function_call_output", "function_response")
_RESULT_IDS = ("tool_use_id", "tool_call_id", "call_id", "id")
_RESULT_KEYS = ("content", "output", "response", "value", "text")
MEDIA = {
    "a picture": ("image", "image_url", "input_image", "images", "picture"),
    "a video": ("video", "video_url", "input_video", "videos"),
    "sound": ("audio", "audio_url", "input_audio", "audios"),
    "a file": ("file", "input_file", "document"),
}


@dataclass
class Content:
    """What a turn says: text, reasoning, calls, and results of tools, each a message of its own."""

    text: Any = None
    reasoning: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)


def joined_parts(parts: list[Any], what: str, path: str, notes: RowNotes) -> Content:
    """Return what the parts of a content say together. Raises RowRefused naming `what`."""
    found, texts = Content(), []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, dict):
            raise RowRefused(
                say("{what} is a list of parts, and one of them {kind_of}", what=what, kind_of=kind_of(part))
            )
        fields = Fields(part)
        kind = str(fields.get("type") or "text")
        if kind in _TEXTS:
            texts.append(_text(fields, _TEXTS[kind], what))
        elif kind in _REASONING:
            found.reasoning.append(_reasoning(fields.first(*_REASONING[kind]), what))
        elif kind in _CALLS:
            call = fields.first("value", "tool_call", "function_call") or part
            found.calls.append(tool_call(call, what, path, notes))
            continue  # the call has noted what nobody read of it
        elif kind in _RESULTS:
            found.results.append(_result(fields, what, notes))
        elif kind == _REDACTED:
            pass  # told as unread
        else:
            raise RowRefused(_foreign(kind, what))
        notes.left(fields, path)
    if texts:
        notes.repaired("joined the text parts of a message")
        found.text = "".join(texts)
    if found.reasoning:
        notes.repaired("read the reasoning from a part of a message")
    if found.calls:
        notes.repaired("read tool calls from parts of a message")
    if found.results:
        notes.repaired("read a tool's result from a part of a message")
    return found


def result_text(value: Any, notes: RowNotes) -> Any:
    """Return a tool's result as text; objects and lists as JSON."""
    if isinstance(value, dict | list):
        notes.repaired("wrote a tool's result as JSON text")
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return json.dumps(value)
    return number_as_text(value, notes)


def is_parts(value: list[Any]) -> bool:
    """Whether a list that a tool returned is one of parts, and not its data."""
    known = {*_TEXTS, *_REASONING, _REDACTED, *_CALLS, *_RESULTS, *(name for names in MEDIA.values() for name in names)}
    return bool(value) and all(isinstance(part, dict) and str(part.get("type")) in known for part in value)


def media_words(name: Any) -> str:
    """Return what a type of part or a column of this name holds, or nothing where it is no picture, sound or file."""
    return next((words for words, names in MEDIA.items() if name in names), "")


def _text(fields: Fields, keys: tuple[str, ...], what: str) -> str:
    text = next((fields.get(key) for key in keys if key in fields), None)
    if not isinstance(text, str):
        raise RowRefused(say("{what} is a list of parts, and one of them is no text", what=what))
    return text


def _reasoning(value: Any, what: str) -> str:
    if isinstance(value, list):
        return "".join(_reasoning(part, what) for part in value)
    if isinstance(value, dict):
        value = value.get("text")
    if not isinstance(value, str):
        raise RowRefused(say("{what} holds reasoning that {kind_of}, not text", what=what, kind_of=kind_of(value)))
    return value


def _result(fields: Fields, what: str, notes: RowNotes) -> dict[str, Any]:
    content = fields.first(*_RESULT_KEYS)
    if isinstance(content, list) and is_parts(content):
        content = joined_parts(content, what, "", RowNotes(notes.reading)).text
    known = {"tool_call_id": found} if isinstance(found := fields.first(*_RESULT_IDS), str) else {}
    known |= {"name": name} if isinstance(name := fields.get("name"), str) else {}
    return {"role": "tool", "content": result_text("" if content is None else content, notes), **known}


def _foreign(kind: str, what: str) -> str:
    if words := media_words(kind):
        return f"{what} holds {words} (a part of type '{kind}'); only text can be learned"
    return f"{what} holds a part of type '{shown(kind)}'; only text can be learned"
