"""Whether the trained spans of a text are what its answers say, by looking for the words alone.

It knows nothing of templates and of how the spans were found: each value that an answer says and that stands in the
text must stand in a span as often, and what others say must stand outside of them. Nor does a span hold the start of
a turn, before the first or behind the last that its answer says.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from qlora_studio.engine.templates.chat_template import REASONING, Message

_PLAIN = {"role", "content", "trained"}
_LONGEST_END = 24  # characters that a template writes to end a plain answer
_SHORTEST = 4  # characters of what others say, to be told from the template's own words


def coverage_gaps(
    text: str,
    spans: Sequence[tuple[int, int]],
    messages: Sequence[Message],
    learned: Sequence[int],
    tools: Any,
    header: str = "",
) -> list[str]:
    """Return what is wrong with the spans of a text; the answers of `learned`, by index, are to be trained.

    `header` is what begins a turn of the assistant.
    """
    if _is_plain(text, spans, messages, learned, header.strip()):
        return []
    own = [value for index in learned for value in values_of(messages[index])]
    others = [value for index, message in enumerate(messages) if index not in learned for value in values_of(message)]
    said = "\0".join((*own, *(json.dumps(messages[index].get("tool_calls"), ensure_ascii=False) for index in learned)))
    around = "\0".join((*others, json.dumps(tools, ensure_ascii=False) if tools else ""))
    gaps = []
    for value in dict.fromkeys(own):
        whole, touched, clear = _places(value, text, spans)
        if whole < own.count(value) and touched - whole + clear > around.count(value):
            gaps.append(f"not trained: {value}")
    for value in dict.fromkeys(others):
        _, touched, clear = _places(value, text, spans)
        if len(value) >= _SHORTEST and touched > said.count(value) and clear < around.count(value):
            gaps.append(f"trained: {value}")
    if any(_holds_header(text[start:end], own, header.strip()) for start, end in spans):
        gaps.append(f"trained: {header}")
    return gaps


def _is_plain(
    text: str, spans: Sequence[tuple[int, int]], messages: Sequence[Message], learned: Sequence[int], header: str
) -> bool:
    """Whether each span is one answer's content and hardly more: seen at a glance, as it is with most rows."""
    if len(spans) != len(learned):
        return False
    for (start, end), index in zip(spans, learned, strict=True):
        message = messages[index]
        content = message["content"].strip() if message.keys() <= _PLAIN else ""
        span = text[start:end].lstrip()
        more = span[len(content) :]
        if not content or not span.startswith(content) or len(more) > _LONGEST_END or "</think>" in content:
            return False
        if header and (header in more or span.startswith(header)):
            return False
    return True


def values_of(message: Message) -> Iterator[str]:
    """Yield what a message says, each as it is to be found in the text: contents, reasoning, calls."""
    content = str(message.get("content") or "")
    thought, mark, answer = content.rpartition("</think>")
    yield from filter(None, (answer.strip(), thought.rpartition("<think>")[2].strip() if mark else ""))
    yield from {str(message[key]).strip() for key in REASONING if message.get(key)}
    for call in message.get("tool_calls") or ():
        yield str(call["function"]["name"])
        yield from _leaves(call["function"].get("arguments"))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)
    elif isinstance(value, str) and value.strip():
        yield value.strip()


def _places(value: str, text: str, spans: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    """Return how often a value stands within a span, has a character in one, and stands clear of them."""
    forms = (value, json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1])
    form = next((form for form in forms if form in text), value)
    whole = touched = clear = 0
    at = text.find(form)
    while at >= 0:
        end = at + len(form)
        place = bisect_right(spans, (at, len(text) + 1)) - 1  # the last span that begins at or before it
        if place >= 0 and end <= spans[place][1]:
            whole += 1
        if (place >= 0 and at < spans[place][1]) or (place + 1 < len(spans) and spans[place + 1][0] < end):
            touched += 1
        else:
            clear += 1
        at = text.find(form, end)
    return whole, touched, clear


def _holds_header(span: str, own: Sequence[str], header: str) -> bool:
    if not header:
        return False
    last = max((span.rfind(value) + len(value) for value in own if value in span), default=0)
    return span.lstrip().startswith(header) or header in span[last:]
