"""In which shape a template wants its messages: plain or in parts, with or without a system turn, and tool calls how.

The order of roles is the template's to refuse. What is rendered must hold what was said (completeness.py).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.engine.templates.chat_template import REASONING, REFUSALS, ChatTemplate, Message
from qlora_studio.engine.templates.completeness import Losses, losses_of

FOLDED = "the system prompt is put in front of the first question"
BEGUN = "what stands before the first question is left out"
JOINED = "turns of the same role, one after another, are joined"
_PROBE = ({"role": "user", "content": "Ping?"}, {"role": "assistant", "content": "Pong."})
_SYSTEM = {"role": "system", "content": "Play."}
Reshaped = Callable[[Sequence[Message]], Sequence[Message]]


@dataclass(frozen=True, slots=True)
class Shaped:
    """A conversation as a template takes it: its messages, its text, what was `changed` for that, and what is lost."""

    messages: Sequence[Message]
    text: str
    changed: tuple[str, ...]
    losses: Losses


class TemplateShape:
    """Renders conversations in the shape that a template takes; where `joins`, turns of one role may be joined."""

    def __init__(self, template: ChatTemplate, *, joins: bool = False) -> None:
        self._template, self._joins = template, joins
        template.in_parts = not self._takes(_PROBE) and self._takes_parts()
        self._folds_system = self._takes(_PROBE) and not self._takes((_SYSTEM, *_PROBE))

    def rendered(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> Shaped:
        """Return a conversation as the template takes it. Raises what the template raises, or RowRefused.

        The first try is the messages as they are; the others change no more than they must.
        """
        failure: Exception | None = None
        for changed, order in self._orders(messages):
            for shape in _shapes(messages):
                shaped = shape(order)
                try:
                    text = self._template.render(shaped, tools)
                    losses = losses_of(text, shaped, tools, lambda other: self._template.render(other, tools))
                except (RowRefused, *REFUSALS) as error:
                    failure = error if failure is None else max(failure, error, key=_says)
                    continue
                return Shaped(shaped, text, changed, losses)
        assert failure is not None
        raise failure

    def _orders(self, messages: Sequence[Message]) -> Iterator[tuple[tuple[str, ...], Sequence[Message]]]:
        """Yield the messages as they are, then in orders that stricter templates take, each with what it changes."""
        folded = _with_system_folded(messages) if self._folds_system else messages
        changed: tuple[str, ...] = () if folded is messages else (FOLDED,)
        yield changed, folded
        tries = [(BEGUN, _from_first_question)]
        tries += [(JOINED, _with_turns_joined)] if self._joins else []
        for what, change in tries:
            other = change(folded)
            if other is not folded:
                folded, changed = other, (*changed, what)
                again = _with_system_folded(folded) if self._folds_system else folded
                if again is not folded:
                    folded, changed = again, (*changed, FOLDED)
                yield changed, folded

    def _takes(self, messages: Sequence[Message]) -> bool:
        try:
            text = self._template.render(messages)
        except REFUSALS:
            return False
        return all(str(message["content"]) in text for message in messages)

    def _takes_parts(self) -> bool:
        self._template.in_parts = True
        return self._takes(_PROBE)


def _says(failure: Exception) -> int:
    """Return how much a failure says: what the template leaves out, its own words, or what it stumbled over."""
    return 2 * isinstance(failure, RowRefused) + (type(failure) is TemplateError)


def _with_system_folded(messages: Sequence[Message]) -> Sequence[Message]:
    """Put a system prompt in front of the first question, for a template that knows no system turn."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return messages
    both = f"{messages[0]['content']}\n\n{messages[1]['content']}"
    return [{**messages[1], "content": both}, *messages[2:]]


def _from_first_question(messages: Sequence[Message]) -> Sequence[Message]:
    """Leave out answers before the first question: pieces of a longer conversation begin so."""
    first = next((index for index, message in enumerate(messages) if message["role"] == "user"), 0)
    kept = [message for message in messages[:first] if message["role"] == "system"]
    return messages if len(kept) == first else [*kept, *messages[first:]]


def _with_turns_joined(messages: Sequence[Message]) -> Sequence[Message]:
    """Join plain turns of the same role that follow one another; results of tools belong to calls of their own."""
    joined: list[Message] = []
    for message in messages:
        if joined and _can_join(joined[-1], message):
            both = "\n\n".join(filter(None, (joined[-1]["content"], message["content"])))
            joined[-1] = {**joined[-1], **message, "content": both}
        else:
            joined.append(message)
    return messages if len(joined) == len(messages) else joined


def _can_join(one: Message, other: Message) -> bool:
    return (
        one["role"] == other["role"] != "tool"
        and one.get("trained") == other.get("trained")
        and not one.get("tool_calls")
        and not any(other.get(key) for key in REASONING)
    )


def _shapes(messages: Sequence[Message]) -> Iterator[Reshaped]:
    yield lambda messages: messages
    if any(message.get("tool_calls") for message in messages):
        yield lambda messages: [_with_calls_as_text(message) for message in messages]
        yield lambda messages: [_without_empty_content(message) for message in messages]
        yield lambda messages: [_without_empty_content(_with_calls_as_text(message)) for message in messages]


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
