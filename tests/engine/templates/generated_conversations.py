"""Conversations of every structure that comes up, made by chance from a seed, each value with a word of its own in it.

What must be trained of one is said here by these words alone: nothing of the mask is used.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "A place."},
                "days": {"type": "integer", "description": "How many."},
            },
            "required": ["city"],
        },
    },
}
_STYLES = ("{}", "{}.\n\nAnd a second line: ü🙂", ' {} {{"a": [1]}} ', "{} <b>&amp;</b> | x", "1. {}\n2. more")


@dataclass
class Conversation:
    """Messages and tools; `own` are the words of each answer by its index, `others` those of everybody else.

    `droppable` are those that a template may leave out: reasoning, and what is said beside a call.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    own: dict[int, list[str]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    droppable: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Its structure: a letter for each role; answers have r for reasoning, c for each call, - where masked."""
        letters = []
        for message in self.messages:
            letter = "a" if message["role"] == "assistant" else message["role"][0]
            thinks = message.get("reasoning_content") or "</think>" in message["content"]
            calls = len(message.get("tool_calls", ()))
            masked = "-" if message.get("trained") is False else ""
            letters.append(letter + "r" * bool(thinks) + "c" * calls + masked)
        return " ".join(letters)


def conversations(seed: int) -> Iterator[Conversation]:
    """Yield conversations without end, the same for the same seed."""
    chance = random.Random(seed)
    while True:
        yield _Maker(chance).made


class _Maker:
    def __init__(self, chance: random.Random) -> None:
        self._chance, self.made, self._words, self._calls = chance, Conversation(), 0, 0
        self._thinks = chance.choice(("", "", "apart", "within"))
        with_tools = chance.random() < 0.45
        if with_tools:
            self.made.tools.append(TOOL)
        if chance.random() < 0.35:
            self._say("system")
        if chance.random() < 0.05:
            self._answer()
        for _ in range(chance.choice((1, 1, 2, 3))):
            for _ in range(2 if chance.random() < 0.06 else 1):
                self._say("user")
            for _ in range(chance.choice((0, 1, 1, 2)) if with_tools else 0):
                self._call()
            for _ in range(2 if chance.random() < 0.05 else 1):
                self._answer()
            if chance.random() < 0.04:
                self._say("system")
                self._say("user")
                self._answer()
        if len(self.made.own) > 1 and chance.random() < 0.2:
            self._mask(chance.choice(sorted(self.made.own)[:-1]))

    def _word(self, kind: str) -> str:
        self._words += 1
        return f"{kind}{self._words:03d}x"

    def _say(self, role: str, **more: Any) -> None:
        word = self._word(role[:3].upper())
        self.made.others.append(word)
        self.made.messages.append({"role": role, "content": self._chance.choice(_STYLES).format(word), **more})

    def _answer(self, calls: Sequence[Any] = (), words: Sequence[str] = (), speaks: bool = True) -> None:
        own = list(words)
        content = ""
        if speaks:
            own.insert(0, self._word("ANS"))
            content = self._chance.choice(_STYLES).format(own[0])
            self.made.droppable += own[:1] if calls else []
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if self._thinks and self._chance.random() < 0.8:
            thought = self._word("THK")
            own.insert(0, thought)
            self.made.droppable.append(thought)
            if self._thinks == "within" and speaks:
                message["content"] = f"<think>\n{thought} hm\n</think>\n\n{content.strip()}"
            else:
                message["reasoning_content"] = f"{thought} hm"
        if calls:
            message["tool_calls"] = list(calls)
        self.made.own[len(self.made.messages)] = own
        self.made.messages.append(message)

    def _call(self) -> None:
        calls, words, names = [], [], []
        for _ in range(self._chance.choice((1, 1, 1, 2))):
            self._calls += 1
            names.append(f"call{self._calls:05d}")
            words.append(self._word("ARG"))
            arguments: dict[str, Any] = {"city": words[-1]}
            if self._chance.random() < 0.3:
                arguments["days"] = 3
            calls.append(
                {"id": names[-1], "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
            )
        self._answer(calls, words, speaks=self._chance.random() < 0.3)
        for name in names:
            self._say("tool", name="get_weather", tool_call_id=name)

    def _mask(self, index: int) -> None:
        self.made.messages[index]["trained"] = False
        self.made.others += self.made.own.pop(index)
