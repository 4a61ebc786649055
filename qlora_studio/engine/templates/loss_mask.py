"""Where the answers stand in a rendered conversation: found exactly and verified, or not at all.

Four ways, tried in this order for each conversation; every one is checked against the text that is really rendered:
  markers   the template marks what the model generates (`{% generation %}`)
  twin      trl's version of this template that has these markers, where it renders the same text
  turns     each turn, rendered alone, is the beginning of the whole; what came with the turn is the answer
  contents  marks put into the contents show where each answer begins and ends

An answer is all that the model has to say: from the end of the generation prompt to its end-of-turn token, included.
Pure text; runs in the sandbox's child.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.engine.templates.chat_template import SPAN_END, SPAN_START, ChatTemplate, Message
from qlora_studio.engine.templates.content_marks import ContentMarks
from qlora_studio.engine.templates.shape import REFUSALS, TemplateShape
from qlora_studio.engine.templates.turn_end import turn_ends

Span = tuple[int, int]
_PROBE = ({"role": "user", "content": "Ping?"}, {"role": "assistant", "content": "Pong."})


@dataclass(frozen=True)
class Answers:
    """A rendered conversation with the spans, in characters, that are trained; `how` names the way they were found.

    `ended` is whether every answer ends with a control token; `added` is the end token that the template left out;
    `prompted` whether the text up to the last answer is what the model is given when it is asked for that answer;
    `folded` whether the system prompt stands in front of the first question, in a template without system turns.
    """

    text: str
    spans: tuple[Span, ...]
    how: str
    ended: bool = True
    added: str = ""
    prompted: bool = True
    folded: bool = False


class MaskUnavailable(RowRefused):
    """The template does not show where the answers of this conversation are; `text` is the conversation."""

    def __init__(self, text: str) -> None:
        super().__init__("the template does not show where its answers begin and end")
        self.text = text


class AnswerFinder:
    """Finds the answers of conversations rendered with one template."""

    def __init__(
        self,
        template: ChatTemplate,
        twin: ChatTemplate | None,
        control_tokens: Iterable[str],
        end_token: str,
        stops: Sequence[str] = (),
    ) -> None:
        self._template = template
        self._twin = twin
        self._shape = TemplateShape(template)
        added = {token for token in control_tokens if token.strip()}
        self.ends = turn_ends(self._shape, added, end_token, stops)
        self._tokens = self.ends.tokens
        self._token = re.compile(_one_of(self._tokens))
        self._token_ahead = re.compile(rf"(?:\s|{_one_of(added)})*?(?:{_one_of(self._tokens)})")
        if twin is not None:
            twin.in_parts = template.in_parts
        self._prompt = self._generation_prompt()

    def whole(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> Answers:
        """Return the conversation with all of its text trained."""
        folded = self._shape.folds(messages)
        messages, text = self._shape.rendered(messages, tools)
        added = "" if text.rstrip().endswith(self._tokens) else self.ends.missing(messages[-1])
        ended = added != "" or text.rstrip().endswith(self._tokens)
        prompted = self._is_prompted(text, messages, tools)
        return Answers(text + added, ((0, len(text + added)),), "all", ended, added, prompted, folded)

    def answers(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> Answers:
        """Return the conversation with its answers. Raises RowRefused, MaskUnavailable where there are some."""
        if not any(message["role"] == "assistant" for message in messages):
            raise RowRefused("there is no answer in this conversation")
        folded = self._shape.folds(messages)
        messages, text = self._shape.rendered(messages, tools)
        for find in (self._by_markers, self._by_twin, self._by_turns, self._by_contents):
            try:
                found = find(text, messages, tools)
            except REFUSALS:
                continue  # this way of asking is not one that the template takes
            if found is not None and _covers(*found[:2], messages):
                prompted = found[2] == "turns" or self._is_prompted(text, messages, tools)
                return replace(self._closed(*found, messages[-1]), prompted=prompted, folded=folded)
        raise MaskUnavailable(text)

    def _is_prompted(self, text: str, messages: Sequence[Message], tools: Sequence[Any] | None) -> bool:
        turns = _assistant_turns(messages)
        if not turns:
            return True
        try:
            return text.startswith(self._template.render(messages[: turns[-1]], tools, generation_prompt=True))
        except REFUSALS:
            return False

    def _by_markers(
        self, text: str, messages: Sequence[Message], tools: Sequence[Any] | None
    ) -> tuple[str, list[Span], str] | None:
        if not self._template.has_markers:
            return None
        marked, spans = _unmarked(self._template.render_marked(messages, tools))
        return (text, spans, "markers") if marked == text and spans else None

    def _by_twin(
        self, text: str, messages: Sequence[Message], tools: Sequence[Any] | None
    ) -> tuple[str, list[Span], str] | None:
        """A twin may differ only in ending the last turn, which some templates leave open."""
        if self._twin is None:
            return None
        marked, spans = _unmarked(self._twin.render_marked(messages, tools))
        more = marked[len(text) :]
        same = marked.startswith(text) and (not more or self._token.fullmatch(more.strip()) is not None)
        return (marked, spans, "twin") if same and spans else None

    def _by_turns(
        self, text: str, messages: Sequence[Message], tools: Sequence[Any] | None
    ) -> tuple[str, list[Span], str] | None:
        spans: list[Span] = []
        for index in _assistant_turns(messages):
            before = self._template.render(messages[:index], tools, generation_prompt=True)
            last = index + 1 == len(messages)
            through = text if last else self._template.render(messages[: index + 1], tools)
            if not (through.startswith(before) and text.startswith(through)):
                return None
            if str(messages[index].get("content") or "").strip() not in through[len(before) :]:
                return None
            spans.append((len(before), len(through)))
        return text, spans, "turns"

    def _by_contents(
        self, text: str, messages: Sequence[Message], tools: Sequence[Any] | None
    ) -> tuple[str, list[Span], str] | None:
        marks = ContentMarks(messages)
        positions = marks.positions(self._template.render(marks.messages, tools), text)
        if positions is None:
            return None
        spans: list[Span] = []
        previous = 0
        for index, message in enumerate(messages):
            content = positions.get(index)
            if message["role"] == "assistant":
                limit = min(
                    (end if first is None else first for later, (first, end) in positions.items() if later > index),
                    default=len(text),
                )
                span = self._answer_around(text, previous, content, limit, message)
                if span is None:
                    return None
                spans.append(span)
                previous = span[1]
            previous = max(previous, content[1] if content else 0)
        return text, spans, "contents"

    def _answer_around(
        self, text: str, previous: int, content: tuple[int | None, int] | None, limit: int, message: Message
    ) -> Span | None:
        """Return the answer of this message, which stands after `previous` and before `limit`."""
        if content is None:  # nothing but tool calls, say: it begins after the first header that comes
            start, end = None, limit
            header = text.find(self._prompt, previous, limit) if self._prompt else -1
        else:
            start, end = content
            header = text.rfind(self._prompt, previous, end if start is None else start) if self._prompt else -1
        if header >= 0:
            start = header + len(self._prompt)
        if start is None:
            return None
        if content is None or message.get("tool_calls"):
            closing = self.ends.after_call
            end = text.find(closing, start if content is None else end, limit) if closing else -1
        return (start, end) if end >= start else None

    def _closed(self, text: str, spans: list[Span], how: str, last: Message) -> Answers:
        """Let each answer reach to its end-of-turn token, included; add one where the last has none."""
        added = ""
        spans = self._without_prompt(text, _joined(spans))
        if text[spans[-1][1] :].strip() == "" and not text.rstrip().endswith(self._tokens):
            added = self.ends.missing(last)
            text += added
            spans[-1] = (spans[-1][0], len(text))
        ends = [self._end_of_answer(text, start, end, how) for start, end in spans]
        closed = _joined([(start, end) for (start, _), (end, _) in zip(spans, ends, strict=True)])
        return Answers(text, tuple(closed), how, ended=all(ended for _, ended in ends), added=added)

    def _without_prompt(self, text: str, spans: list[Span]) -> list[Span]:
        """Let answers begin behind the generation prompt: some markers take in its end, or all of it."""
        found = []
        for start, end in spans:
            prompt = text.find(self._prompt, max(0, start - len(self._prompt)), end) if self._prompt else -1
            behind = prompt + len(self._prompt)
            found.append((behind, end) if 0 <= prompt <= start < behind else (start, end))
        return found

    def _end_of_answer(self, text: str, start: int, end: int, how: str) -> tuple[int, bool]:
        """Return where an answer ends, end-of-turn token included, and whether there is such a token."""
        inside = text[start:end].rstrip()
        if how != "contents" and inside.endswith(self._tokens):
            return start + len(inside), True
        after = self._token_ahead.match(text, end)
        if after is None and inside.endswith(self._tokens):
            return start + len(inside), True
        return (after.end(), True) if after else (end, False)

    def _generation_prompt(self) -> str:
        """Return what the template writes to have an answer begin, or "" where that is not to be had."""
        try:
            without = self._template.render(_PROBE[:1])
            prompt = self._template.render(_PROBE[:1], generation_prompt=True)
        except REFUSALS:
            return ""
        return prompt[len(without) :] if prompt.startswith(without) else ""


def _one_of(tokens: Iterable[str]) -> str:
    """Return a pattern of any of these texts, the longest first."""
    return "|".join(map(re.escape, sorted(filter(None, tokens), key=len, reverse=True))) or "(?!)"


def _covers(text: str, spans: list[Span], messages: Sequence[Message]) -> bool:
    """Whether every answer lies in a span; its reasoning may have been dropped by the template."""
    trained = "\0".join(text[start:end] for start, end in spans)
    answers = (str(messages[index].get("content") or "") for index in _assistant_turns(messages))
    return all(answer.rpartition("</think>")[2].strip() in trained for answer in answers)


def _assistant_turns(messages: Sequence[Message]) -> list[int]:
    return [index for index, message in enumerate(messages) if message["role"] == "assistant"]


def _joined(spans: list[Span]) -> list[Span]:
    """Return spans that touch as one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _unmarked(marked: str) -> tuple[str, list[Span]]:
    """Return the text without span marks, and the spans."""
    pieces: list[str] = []
    spans: list[Span] = []
    length, start = 0, 0
    for piece in re.split(f"([{SPAN_START}{SPAN_END}])", marked):
        if piece == SPAN_START:
            start = length
        elif piece == SPAN_END:
            if length > start:
                spans.append((start, length))
        else:
            pieces.append(piece)
            length += len(piece)
    return "".join(pieces), spans
