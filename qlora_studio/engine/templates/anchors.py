"""Marks put into what is said in a conversation, to see where a template puts it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qlora_studio.engine.templates.chat_template import REASONING, Message

# What is marked, tried in this order: some templates look into a tool's result, or at a name.
DEPTHS: tuple[frozenset[str], ...] = (
    frozenset({"content", "reasoning", "calls", "names", "results"}),
    frozenset({"content", "reasoning", "calls", "results"}),
    frozenset({"content", "reasoning", "calls"}),
    frozenset({"content", "reasoning", "names", "results"}),
    frozenset({"content"}),
)


@dataclass(frozen=True, slots=True)
class Places:
    """A rendered text without its marks, and where what each message says begins and ends in it, by its index.

    `parts` are the places one after another: some templates write what an answer says behind the results of its calls.
    """

    text: str
    parts: list[tuple[int, int, int]]

    @property
    def spoken(self) -> dict[int, tuple[int, int]]:
        """Where what each message says begins, and where the last of it ends."""
        firsts = {index: start for index, start, _ in reversed(self.parts)}
        return {index: (firsts[index], end) for index, _, end in self.parts}

    def before(self, index: int) -> int | None:
        """Return the last message before `index` that stands in the text, if any."""
        return max((earlier for earlier in self.spoken if earlier < index), default=None)

    def after(self, index: int) -> int:
        """Return where the first message behind `index` begins to speak, or the end of the text."""
        last = max((place for place, part in enumerate(self.parts) if part[0] == index), default=-1)
        later = (start for other, start, _ in self.parts[last + 1 :] if other > index)
        return next(later, len(self.text))


class Anchors:
    """Messages whose values carry a mark at each end, inside of the white space that templates trim."""

    def __init__(self, messages: Sequence[Message], depth: frozenset[str]) -> None:
        nonce = "Qx7c1e"
        while any(nonce in str(message) for message in messages):
            nonce += "9"
        self._nonce, self._depth, self._value = nonce, depth, 0
        self._mark = re.compile(rf"{nonce}([AB])(\d+)v(\d+)Z")
        self._roles = [message["role"] for message in messages]
        self.messages = [self._marked(message, index) for index, message in enumerate(messages)]

    def places(self, marked: str) -> Places | None:
        """Return where each message stands, or None where that is not plain: said twice, or one within another."""
        pieces: list[str] = []
        parts: list[tuple[int, int, int]] = []
        seen = set()
        done = length = 0
        latest = -1
        for match in self._mark.finditer(marked):
            pieces.append(marked[done : match.start()])
            length += len(pieces[-1])
            done = match.end()
            index = int(match.group(2))
            if self._roles[index] == "system":  # templates may put it anywhere, and twice
                continue
            if match.group() in seen or (index < latest and not self._has_results(index, latest)):
                return None
            latest = max(index, latest)
            seen.add(match.group())
            if parts and parts[-1][0] == index:
                parts[-1] = (*parts[-1][:2], length)
            else:
                parts.append((index, length, length))
        pieces.append(marked[done:])
        return Places("".join(pieces), parts)

    def _has_results(self, index: int, latest: int) -> bool:
        """Whether nothing but results of tools stands behind an answer."""
        return self._roles[index] == "assistant" and set(self._roles[index + 1 : latest + 1]) == {"tool"}

    def _marked(self, message: Message, index: int) -> Message:
        marked: dict[str, Any] = dict(message)
        if isinstance(message.get("content"), str):
            marked["content"] = self._content(message, index)
        if "reasoning" in self._depth:
            marked |= {key: self._around(str(message[key]), index) for key in REASONING if message.get(key)}
        if message.get("tool_calls") and self._depth & {"calls", "names"}:
            marked["tool_calls"] = [self._call(call, index) for call in message["tool_calls"]]
        return marked

    def _content(self, message: Message, index: int) -> str:
        content = str(message["content"])
        if message["role"] == "tool" and "results" not in self._depth:
            return content
        if message["role"] != "assistant" or "</think>" not in content:
            return self._around(content, index)
        thought, _, answer = content.rpartition("</think>")  # its reasoning goes a way of its own, if it is kept at all
        opener, begin, inner = thought.rpartition("<think>")
        if begin and "reasoning" in self._depth:
            thought = opener + begin + self._around(inner, index)
        return f"{thought}</think>{self._around(answer, index)}"

    def _call(self, call: dict[str, Any], index: int) -> dict[str, Any]:
        function = dict(call["function"])
        if "names" in self._depth:
            function["name"] = self._around(str(function["name"]), index)
        if "calls" in self._depth:
            function["arguments"] = self._values(function.get("arguments"), index)
        return {**call, "function": function}

    def _values(self, value: Any, index: int) -> Any:
        if isinstance(value, str):
            return self._around(value, index)
        if isinstance(value, dict):
            return {key: self._values(part, index) for key, part in value.items()}
        return [self._values(part, index) for part in value] if isinstance(value, list) else value

    def _around(self, text: str, index: int) -> str:
        core = text.strip()
        if not core:
            return text
        self._value += 1
        lead, trail = text[: text.index(core)], text[text.index(core) + len(core) :]
        return f"{lead}{self._nonce}A{index}v{self._value}Z{core}{self._nonce}B{index}v{self._value}Z{trail}"
