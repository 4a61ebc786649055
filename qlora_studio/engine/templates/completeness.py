"""What a chat template leaves out of a conversation: looked for in its text by value, not by a function's name.

It shares nothing with what finds the answers. Contents and results must stand in the text as often as they were said.
Of calls, every name and argument is replaced by a word of its own, and each of these words must come: a second call is
not hidden by the first, nor by a question that names the same place.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.engine.templates.chat_template import REASONING, REFUSALS, Message

EARLIER, LAST = "reasoning of earlier answers", "reasoning of the last answer"
SYSTEM, TOOLS = "system prompts", "definitions of tools"
BESIDE = "what answers say beside their calls"
_WORD = "zq{}xv"


class Incomplete(RowRefused):
    """The template leaves out what must not be missing; `text` is what it makes of the conversation."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(reason)
        self.text = text


@dataclass(frozen=True, slots=True)
class Losses:
    """What a text leaves out of a conversation that can be learned all the same, and the reasoning that it drops."""

    parts: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()


_NOTHING = Losses()


def losses_of(
    text: str,
    messages: Sequence[Message],
    tools: Sequence[Any] | None,
    render: Callable[[Sequence[Message]], str],
) -> Losses:
    """Return what a text leaves out. `render` renders messages of the same shape. Raises Incomplete for the rest."""
    if not tools and _all_in_order(text, messages):
        return _NOTHING
    said = [_said(message) for message in messages if message["role"] != "system"]
    whole = "\0".join(said)
    for message in messages:
        if message["role"] != "system" and not message.get("tool_calls") and not _stands(_said(message), text, whole):
            what = "a tool's result" if message["role"] == "tool" else f"what the {message['role']} says"
            raise Incomplete(f"the template leaves out {what}", text)
    if any(message.get("tool_calls") for message in messages):
        _check_calls(text, messages, render)
    return _told(text, messages, whole, tools)


def _all_in_order(text: str, messages: Sequence[Message]) -> bool:
    """Whether messages that are no more than a role and a content stand in a text one after another."""
    at = 0
    for message in messages:
        said = message["content"].strip() if len(message) == 2 else ""
        at = text.find(said, at) + len(said) if said else -1
        if at < len(said) or "</think>" in said:
            return False
    return True


def _told(text: str, messages: Sequence[Message], said: str, tools: Sequence[Any] | None) -> Losses:
    parts: dict[str, None] = {}
    dropped = []
    seen: Counter[str] = Counter()
    for index, message in reversed(list(enumerate(messages))):  # where one of two is dropped, it is the earlier
        if message["role"] == "system" and not _contains(text, _said(message)):
            parts[SYSTEM] = None
        if message.get("tool_calls") and not _stands(_said(message), text, said):
            parts[BESIDE] = None
        for thought in _thoughts(message):
            seen[thought] += 1
            if text.count(thought) - said.count(thought) < seen[thought] and not _escaped(text, thought):
                parts[LAST if index + 1 == len(messages) else EARLIER] = None
                dropped.append(thought)
    if tools and not all(_contains(text, name) for tool in tools for name in _names(tool)):
        parts[TOOLS] = None
    return Losses(tuple(parts), tuple(dropped))


def _check_calls(text: str, messages: Sequence[Message], render: Callable[[Sequence[Message]], str]) -> None:
    words: list[str] = []

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replaced(part) for key, part in value.items()}
        if isinstance(value, list):
            return [replaced(part) for part in value]
        if isinstance(value, str) and value.strip():
            words.append(_WORD.format(len(words)))
            return words[-1]
        if type(value) in (int, float):
            words.append(str(717_000_001 + len(words)))
            return int(words[-1])
        return value

    def other(call: dict[str, Any]) -> dict[str, Any]:
        function = call["function"]
        arguments = function.get("arguments")
        as_text = isinstance(arguments, str)
        told = replaced(json.loads(arguments) if as_text else arguments)
        return {
            **call,
            "function": {
                **function,
                "name": replaced(function["name"]),
                "arguments": json.dumps(told, ensure_ascii=False) if as_text else told,
            },
        }

    try:
        probe = render(
            [
                {**message, "tool_calls": [other(call) for call in message["tool_calls"]]}
                if message.get("tool_calls")
                else message
                for message in messages
            ]
        )
    except REFUSALS:  # it takes known names alone: what is there is looked for as it stands
        values = [str(call["function"]["name"]) for message in messages for call in message.get("tool_calls") or ()]
        words, probe = values, text
    if not all(word in probe for word in words):
        raise Incomplete("the template leaves out a tool call", text)


def _said(message: Message) -> str:
    """Return what a message says besides its reasoning, which has rules of its own."""
    content = str(message.get("content") or "")
    if message["role"] == "assistant" and "</think>" in content:
        content = content.rpartition("</think>")[2]
    return content.strip()


def _thoughts(message: Message) -> Iterator[str]:
    """Yield the reasoning of an answer: of a field of its own, or within its content."""
    apart = next((str(message[key]).strip() for key in REASONING if message.get(key)), "")
    before, mark, _ = str(message.get("content") or "").rpartition("</think>")
    within = before.rpartition("<think>")[2].strip() if mark and message["role"] == "assistant" else ""
    yield from filter(None, (apart, within))


def _names(tool: Any) -> Iterator[str]:
    function = tool.get("function", tool) if isinstance(tool, dict) else {}
    yield from (str(function[key]) for key in ("name", "description") if function.get(key))


def _stands(value: str, text: str, whole: str) -> bool:
    """Whether a value stands in a text as often as it does in all that was said."""
    count = text.count(value)
    return count >= whole.count(value) if value and count else _contains(text, value)


def _contains(text: str, value: str) -> bool:
    return value in text or _escaped(text, value)


def _escaped(text: str, value: str) -> bool:
    """Whether a value stands in a text as a part of JSON, otherwise than it is."""
    forms = {json.dumps(value, ensure_ascii=ascii)[1:-1] for ascii in (False, True)} - {value}
    return any(form in text for form in forms)
