"""Where one answer begins and ends in a conversation: found by what the template writes around it.

What it writes in front is what it writes to ask for this answer; what it writes behind, what it writes behind it where
the conversation ends there. Both are compared from the nearest mark on, so that it does not matter what a template
rewrites elsewhere.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from qlora_studio.engine.templates.anchors import Anchors, Places
from qlora_studio.engine.templates.chat_template import REFUSALS, Message

# What opens a reasoning: a prompt may end with it, and yet it belongs to the answer, as in the other turns.
_OPENER = re.compile(
    r"[<\[◁](?!/)[^<>\[\]◁▷\s]{0,24}(?:think|thought|reason)[^<>\[\]◁▷\s]{0,16}[>\]▷]"
    r"|<\|channel\|?>\s*(?:thought|analysis)",
    re.IGNORECASE,
)
Render = Callable[..., str]


class AnswerBounds:
    """The bounds of the answers of one conversation, whose places are known.

    `prompt` is what begins an answer after a plain question, `end` what ends one. Where they stand right beside what is
    said, they are the bounds, and nothing is rendered.
    """

    def __init__(
        self,
        places: Places,
        anchors: Anchors,
        render: Render,
        tools: Sequence[Any] | None,
        prompt: str,
        end: re.Pattern[str],
    ) -> None:
        self._whole, self._anchors, self._render, self._tools = places, anchors, render, tools
        self._prompt, self._end = prompt, end

    def of(self, index: int) -> list[tuple[int, int, int]]:
        """Return where an answer begins, where the last that it says ends, and where the template's close to it ends.

        One that goes on behind the results of its calls has several parts. Raises what the template raises; none where
        it cannot be told.
        """
        text = self._whole.text
        begin = self._begin(index, self._whole)
        if begin is None:
            return []
        parts = [part[1:] for part in self._whole.parts if part[0] == index] or [(begin, begin)]
        if begin > parts[0][0]:
            return []
        starts = [begin, *(start for start, _ in parts[1:])]
        ends = [said + self._handing_over(index, text[begin:said], text[said:]) for _, said in parts[:-1]]
        ends.append(parts[-1][1] + self._close(index, text[parts[-1][1] :], begin))
        if ends[-1] > self._whole.after(index):
            return []
        return [(start, said, end) for start, (_, said), end in zip(starts, parts, ends, strict=True)]

    def _handing_over(self, index: int, said: str, rest: str) -> int:
        """Return how much of the text behind the calls of an answer closes them, where its results follow at once."""
        ended = self._places(self._anchors.messages[: index + 1])
        _, found, after = (ended.text if ended else "").partition(said)
        return len(_common(after, rest)) if found else 0

    def as_last(self, index: int) -> str | None:
        """Return an answer, up to the last that it says, as the template writes it where it is the last."""
        ended = self._places(self._anchors.messages[: index + 1])
        if ended is None or index not in ended.spoken:
            return None
        begin = self._begin(index, ended)
        return None if begin is None else ended.text[begin : ended.spoken[index][1]]

    def _begin(self, index: int, places: Places) -> int | None:
        text, earlier = places.text, places.before(index)
        place = 0 if earlier is None else places.spoken[earlier][1]
        first = places.spoken.get(index, (place, place))[0]
        before = without_opener(text[place:first])
        if self._prompt and before.endswith(self._prompt):
            return place + len(before)
        lead = self._lead(index, earlier)
        if lead is not None and text.startswith(lead, place):
            begin = place + len(lead)
            return begin + (len(self._prompt) if text.startswith(self._prompt, begin) else 0)
        header = text.rfind(self._prompt, place, first) if self._prompt else -1
        if header >= 0:
            return header + len(self._prompt)
        if lead is not None:
            return place + len(_common(lead, text[place:]))
        calls = self._anchors.messages[index].get("tool_calls")
        return None if calls else place + len(before)

    def _lead(self, index: int, earlier: int | None) -> str | None:
        """Return what is written between the last that was said and the answer where the template asks for it."""
        try:
            asked = self._places(self._anchors.messages[:index], generation_prompt=True)
        except REFUSALS:  # nothing to ask for, say, where a conversation begins with an answer
            return None
        if asked is None or (earlier is not None and earlier not in asked.spoken):
            return None
        return without_opener(asked.text[0 if earlier is None else asked.spoken[earlier][1] :])

    def _close(self, index: int, rest: str, begin: int) -> int:
        """Return how much of the text behind an answer closes it."""
        if index + 1 == len(self._anchors.messages):
            return len(rest.rstrip())
        if found := self._end.match(rest):
            return found.end()
        try:
            ended = self._places(self._anchors.messages[: index + 1])
        except REFUSALS:
            ended = None
        if ended is None:
            return 0
        if index in ended.spoken:
            close = ended.text[ended.spoken[index][1] :].rstrip()
        else:
            close = ended.text[begin:].rstrip() if ended.text[:begin] == self._whole.text[:begin] else ""
        return len(close if rest.startswith(close) else _common(close, rest))

    def _places(self, messages: Sequence[Message], **how: Any) -> Places | None:
        return self._anchors.places(self._render(messages, self._tools, **how))


def without_opener(prompt: str) -> str:
    """Return what a template writes in front of an answer, without the reasoning that it may open there."""
    match = _OPENER.search(prompt)
    return prompt[: match.start()] if match else prompt


def _common(one: str, other: str) -> str:
    """Return what two texts begin with alike, not cut within brackets."""
    length = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    common = one[: min(len(one), len(other)) if length is None else length]
    opened = max(common.rfind("<"), common.rfind("["))
    return common[:opened] if opened > max(common.rfind(">"), common.rfind("]")) else common
