"""In which shape a template wants its messages: plain or in parts, with or without a system turn, and tool calls how.

What is rendered must hold what was said: a template that drops an answer or a tool call without a word is found here.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from jinja2 import TemplateError

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.engine.templates.chat_template import ChatTemplate, Message

REFUSALS = (RowRefused, TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError)
_PROBE = ({"role": "user", "content": "Ping?"}, {"role": "assistant", "content": "Pong."})
LEFT_OUT_CALL = "the template leaves out a tool call"
_SYSTEM = {"role": "system", "content": "Play."}


class TemplateShape:
    """Renders conversations in the shape that a template takes."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        template.in_parts = not self._takes(_PROBE) and self._takes_parts()
        self._folds_system = self._takes(_PROBE) and not self._takes((_SYSTEM, *_PROBE))

    def folds(self, messages: Sequence[Message]) -> bool:
        """Whether the system prompt of these messages is put in front of the first question."""
        return self._folds_system and _with_system_folded(messages) is not messages

    def rendered(
        self, messages: Sequence[Message], tools: Sequence[Any] | None = None
    ) -> tuple[Sequence[Message], str]:
        """Return the messages as the template takes them, and its text. Raises what the template raises, or RowRefused.

        The first shape is the messages as they are; others are for tool calls, which templates want in several ways.
        """
        if self._folds_system:
            messages = _with_system_folded(messages)
        failure: Exception | None = None
        for shaped in _shapes(messages):
            try:
                text = self._template.render(shaped, tools)
                _check_complete(text, messages)
            except REFUSALS as error:
                failure = failure or error
                continue
            return shaped, text
        assert failure is not None
        raise failure

    def _takes(self, messages: Sequence[Message]) -> bool:
        try:
            text = self._template.render(messages)
        except REFUSALS:
            return False
        return all(str(message["content"]) in text for message in messages)

    def _takes_parts(self) -> bool:
        self._template.in_parts = True
        return self._takes(_PROBE)


def _check_complete(text: str, messages: Sequence[Message]) -> None:
    """Raise RowRefused where a question, an answer or a call is not in the text. Reasoning may be missing from it."""
    for message in messages:
        if message["role"] not in ("user", "assistant"):
            continue
        said = str(message.get("content") or "").strip()
        if said not in text and said.rpartition("</think>")[2].strip() not in text:
            raise RowRefused(f"the template leaves out what the {message['role']} says")
        for call in message.get("tool_calls") or ():
            if str(call["function"]["name"]) not in text:
                raise RowRefused(LEFT_OUT_CALL)


def _with_system_folded(messages: Sequence[Message]) -> Sequence[Message]:
    """Put a system prompt in front of the first question, for a template that knows no system turn."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return messages
    both = f"{messages[0]['content']}\n\n{messages[1]['content']}"
    return [{**messages[1], "content": both}, *messages[2:]]


def _shapes(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    yield messages
    if any(message.get("tool_calls") for message in messages):
        yield [_with_calls_as_text(message) for message in messages]
        yield [_without_empty_content(message) for message in messages]
        yield [_without_empty_content(_with_calls_as_text(message)) for message in messages]


def _with_calls_as_text(message: Message) -> Message:
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {**message, "tool_calls": [{**call, "function": _with_text(call["function"])} for call in calls]}


def _with_text(function: dict[str, Any]) -> dict[str, Any]:
    return {**function, "arguments": json.dumps(function.get("arguments"), ensure_ascii=False)}


def _without_empty_content(message: Message) -> Message:
    if message.get("tool_calls") and not message.get("content"):
        return {key: value for key, value in message.items() if key != "content"}
    return message
