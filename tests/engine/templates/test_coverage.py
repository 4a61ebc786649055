"""The check of a mask turns red for every way in which a mask is broken on purpose."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from qlora_studio.engine.templates.coverage import coverage_gaps
from qlora_studio.engine.templates.loss_mask import AnswerFinder, MaskUnavailable
from tests.engine.templates.generated_conversations import Conversation, conversations
from tests.engine.templates.test_generated import REFUSED, finder_of, header_of

NAMES = ("qwen3", "qwen2_5", "llama3_1", "nemotron_3_nano", "gemma4", "muse_glimmer", "deepseekv3", "lfm2_v2")
Spans = list[tuple[int, int]]


def _word(text: str, words: Sequence[str]) -> tuple[int, int] | None:
    word = next((word for word in words if word in text), None)
    return None if word is None else (text.index(word), text.index(word) + len(word))


def _own(conversation: Conversation, kind: str) -> list[str]:
    return [word for words in conversation.own.values() for word in words if word.startswith(kind)]


def _cut_out(text: str, spans: Spans, words: Sequence[str]) -> Spans | None:
    place = _word(text, words)
    if place is None:
        return None
    return [
        part
        for start, end in spans
        for part in ([(start, place[0]), (place[1], end)] if start <= place[0] < end else [(start, end)])
        if part[0] < part[1]
    ]


def _and(text: str, spans: Spans, words: Sequence[str]) -> Spans | None:
    place = _word(text, words)
    return None if place is None else sorted([*spans, place])


def _with_header(text: str, spans: Spans, header: str) -> Spans | None:
    start = text.rfind(header, 0, spans[-1][0] + 1) if header else -1
    return [*spans[:-1], (start, spans[-1][1])] if start >= 0 else None


def _with_next_header(text: str, spans: Spans, header: str) -> Spans | None:
    place = text.find(header, spans[0][1]) if header and len(spans) > 1 else -1
    return (
        [(spans[0][0], place + len(header)), *(span for span in spans[1:] if span[0] >= place + len(header))]
        if place >= 0
        else None
    )


BREAKS: dict[str, Callable[[str, Spans, Conversation, str], Spans | None]] = {
    "the first answer is left out": lambda t, s, c, h: s[1:],
    "the last answer is left out": lambda t, s, c, h: s[:-1],
    "an answer ends before its last words": lambda t, s, c, h: _cut_out(t, s, _own(c, "ANS")[-1:]),
    "reasoning is masked": lambda t, s, c, h: _cut_out(t, s, _own(c, "THK")),
    "a call is masked": lambda t, s, c, h: _cut_out(t, s, _own(c, "ARG")),
    "a question is trained": lambda t, s, c, h: _and(t, s, [w for w in c.others if w.startswith("USE")]),
    "a result is trained": lambda t, s, c, h: _and(t, s, [w for w in c.others if w.startswith("TOO")]),
    "the system prompt is trained": lambda t, s, c, h: _and(t, s, [w for w in c.others if w.startswith("SYS")]),
    "a turn marked otherwise is trained": lambda t, s, c, h: _and(
        t, s, [w for w in c.others if w[:3] in ("ANS", "ARG")]
    ),
    "the start of a turn is trained": lambda t, s, c, h: _with_header(t, s, h),
    "an answer reaches into the next one": lambda t, s, c, h: _with_next_header(t, s, h),
    "all is trained": lambda t, s, c, h: [(0, len(t))],
    "others are trained, and answers are not": lambda t, s, c, h: list(_between(t, s)),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_mask_is_seen_in_every_template_and_structure(how: str) -> None:
    seen = 0
    for name in NAMES:
        header = header_of(name)
        for conversation in islice(conversations(7), 25):
            try:
                found = finder_of(name).find(conversation.messages, conversation.tools or None)
            except REFUSED:
                continue
            spans = list(found.spans)
            broken = BREAKS[how](found.text, spans, conversation, header)
            if broken is None or broken == spans or found.changed:
                continue
            gaps = coverage_gaps(
                found.text, broken, conversation.messages, sorted(conversation.own), conversation.tools, header
            )
            assert gaps, (name, conversation.kind, broken)
            seen += 1
    assert seen >= 10, "this way to break a mask was hardly tried"


def test_a_finder_whose_mask_is_broken_refuses_the_row_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = AnswerFinder._closed

    def shifted(self: AnswerFinder, *what: Any) -> Any:
        found = closed(self, *what)
        return replace(found, spans=tuple((0, start) for start, _ in found.spans[:1]))

    monkeypatch.setattr(AnswerFinder, "_closed", shifted)
    with pytest.raises(MaskUnavailable, match="does not show where its answers begin and end"):
        finder_of("qwen3").find([{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}])


def _between(text: str, spans: Spans) -> Spans:
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]
