"""Where the answers stand in a rendered conversation: found exactly and verified, or not at all.

Three ways, tried in this order for each conversation; every one is checked against the text that is really rendered:
  markers   the template marks what the model generates (`{% generation %}`)
  turns     each turn, rendered alone, is the beginning of the whole; what came with the turn is the answer
  contents  marks around all that is said show where each answer begins and ends

An answer is all that the model has to say: from the end of the generation prompt to its end-of-turn token, included;
with its reasoning, even where the prompt opens that. Pure text; runs in the sandbox's child.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.words import say
from qlora_studio.engine.templates.anchors import DEPTHS, Anchors
from qlora_studio.engine.templates.answer_bounds import AnswerBounds, without_opener
from qlora_studio.engine.templates.chat_template import REFUSALS, SPAN_END, SPAN_START, ChatTemplate, Message
from qlora_studio.engine.templates.completeness import losses_of
from qlora_studio.engine.templates.coverage import coverage_gaps
from qlora_studio.engine.templates.shape import Shaped, TemplateShape
from qlora_studio.engine.templates.turn_end import turn_ends

Span = tuple[int, int]
Learned = Literal["assistant", "last", "marked", "all"]
_PROBE = ({"role": "user", "content": "Ping?"}, {"role": "assistant", "content": "Pong."})


@dataclass(frozen=True)
class Answers:
    """A rendered conversation with the spans, in characters, that are trained; `how` names the way they were found.

    `ended` is whether every answer ends with a control token; `added` is the end token that the template left out;
    `prompted` whether the text up to the last answer is what the model is given when it is asked for that answer;
    `changed` says what was changed so that the template takes it, `lost` what the template leaves out, and `dropped` is
    the reasoning that it leaves out. `unlearned` counts answers that are not learned, by their marks or by choice.
    """

    text: str
    spans: tuple[Span, ...]
    how: str
    ended: bool = True
    added: str = ""
    prompted: bool = True
    changed: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    unlearned: int = 0


class MaskUnavailable(RowRefused):
    """The template does not show where the answers of this conversation are; `text` is the conversation."""

    def __init__(self, text: str) -> None:
        super().__init__("the template does not show where its answers begin and end")
        self.text = text


@dataclass(frozen=True, slots=True)
class _Turn:
    """An answer: where it begins, where the last that it says ends, and where what the template closes it with ends."""

    index: int
    start: int
    said: int
    end: int


class AnswerFinder:
    """Finds the answers of conversations rendered with one template, and of them those that are `learned`.

    Where it `joins`, turns of one role may be joined for a template that refuses them; where it `keeps`, answers whose
    reasoning the template drops from earlier turns stand as it writes them where they are the last.
    """

    def __init__(
        self,
        template: ChatTemplate,
        control_tokens: Iterable[str],
        end_token: str,
        stops: Sequence[str] = (),
        *,
        learned: Learned = "assistant",
        joins: bool = False,
        keeps: bool = False,
    ) -> None:
        self._template, self._learned, self._keeps = template, learned, keeps
        self._shape = TemplateShape(template, joins=joins)
        added = {token for token in control_tokens if token.strip()}
        self.ends = turn_ends(self._shape, added, end_token, stops)
        self._end = re.compile(_one_of(self.ends.tokens))
        self._end_ahead = re.compile(rf"(?:\s|{_one_of(added)})*?(?:{self._end.pattern})")
        prompt = self._generation_prompt()
        self._prompt = without_opener(prompt)
        self._asks, self._opened = prompt, len(prompt) - len(self._prompt)

    def find(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> Answers:
        """Return the conversation with what is learned of it. Raises RowRefused, MaskUnavailable where that is hidden.

        Where every token is learned, turns that the row marks otherwise are not.
        """
        if self._learned != "all":
            return self.answers(messages, tools)
        whole = self.whole(messages, tools)
        if not any(_is_answer(message) and message.get("trained") is False for message in messages):
            return whole
        left_out = self.answers(
            [{**message, "trained": not message.get("trained", True)} for message in messages], tools
        )
        return replace(whole, spans=tuple(_without(len(whole.text), left_out.spans)), unlearned=len(left_out.spans))

    def whole(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> Answers:
        """Return the conversation with all of its text trained."""
        shaped = self._shape.rendered(messages, tools)
        text = shaped.text
        closed = text.rstrip().endswith(self.ends.tokens)
        added = "" if closed else self.ends.missing(shaped.messages[-1])
        found = Answers(text + added, ((0, len(text + added)),), "all", closed or added != "", added)
        return self._told(found, shaped, tools)

    def answers(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> Answers:
        """Return the conversation with the answers that are learned. Raises RowRefused, MaskUnavailable."""
        if not any(_is_answer(message) for message in messages):
            raise RowRefused(say("there is no answer in this conversation"))
        shaped = self._shape.rendered(messages, tools)
        messages, text = shaped.messages, shaped.text
        learned = self._learned_turns(messages)
        if self._keeps and shaped.losses.reasoning:
            kept = self._kept(shaped, learned, tools)
            if kept is not None:
                return kept
        for how, find in (("markers", self._by_markers), ("turns", self._by_turns), ("contents", self._by_contents)):
            try:
                turns = find(text, messages, tools)
            except REFUSALS:
                continue  # this way of asking is not one that the template takes
            if turns is not None and (found := self._checked(turns, how, shaped, learned, tools)) is not None:
                return found
        raise MaskUnavailable(text)

    def _checked(
        self, turns: list[_Turn], how: str, shaped: Shaped, learned: Sequence[int], tools: Sequence[Any] | None
    ) -> Answers | None:
        """Return the answers that are learned, or None where their words do not stand where they should."""
        turns = [turn for turn in turns if turn.index in learned]
        if not turns:
            return None
        found = self._closed(shaped, turns, how)
        gaps = coverage_gaps(found.text, found.spans, shaped.messages, learned, tools, self._prompt)
        answers = sum(_is_answer(message) for message in shaped.messages)
        return None if gaps else self._told(found, shaped, tools, answers - len(learned))

    def _kept(self, shaped: Shaped, learned: Sequence[int], tools: Sequence[Any] | None) -> Answers | None:
        """Return a conversation with each answer as the template writes it where it is the last, or None."""
        for bounds, turns in self._bounds(shaped.text, shaped.messages, tools):
            if len({turn.index for turn in turns}) < len(turns):
                return None
            pieces, moved, done, length = [], [], 0, 0
            for turn in turns:
                try:
                    said = bounds.as_last(turn.index)
                except REFUSALS:
                    said = None
                if said is None:
                    return None
                said = _with_own_thought(said, str(shaped.messages[turn.index].get("content") or ""))
                pieces += [shaped.text[done : turn.start], said]
                start = length + turn.start - done
                length = start + len(said)
                moved.append(_Turn(turn.index, start, length, length + turn.end - turn.said))
                done = turn.said
            text = "".join(pieces) + shaped.text[done:]
            again = losses_of(text, shaped.messages, tools, lambda other: self._template.render(other, tools))
            if len(again.reasoning) >= len(shaped.losses.reasoning):
                return None  # it shows no more of the reasoning there
            return self._checked(moved, "kept", replace(shaped, text=text, losses=again), learned, tools)
        return None

    def _told(self, found: Answers, shaped: Shaped, tools: Sequence[Any] | None, unlearned: int = 0) -> Answers:
        return replace(
            found,
            prompted=found.how == "turns" or self._is_prompted(shaped.text, shaped.messages, tools),
            changed=shaped.changed,
            lost=shaped.losses.parts,
            dropped=shaped.losses.reasoning,
            unlearned=unlearned,
        )

    def _learned_turns(self, messages: Sequence[Message]) -> list[int]:
        """Return the indices of the answers that are learned, by the setting and by their marks. Raises RowRefused."""
        answers = [index for index, message in enumerate(messages) if _is_answer(message)]
        if self._learned == "last":
            answers = answers[-1:]
        wanted = (True,) if self._learned == "marked" else (True, None)
        learned = [index for index in answers if messages[index].get("trained") in wanted]
        if not learned:
            raise RowRefused(
                say("none of its answers is marked as one to be learned")
                if self._learned == "marked"
                else say("its answers are marked as not to be learned")
            )
        return learned

    def _by_markers(self, text: str, messages: Sequence[Message], tools: Sequence[Any] | None) -> list[_Turn] | None:
        if not self._template.has_markers:
            return None
        marked, spans = _unmarked(self._template.render_marked(messages, tools))
        answers = [index for index, message in enumerate(messages) if _is_answer(message)]
        spans = [self._without_prompt(text, span) for span in _joined(spans)]
        if marked != text or len(spans) != len(answers):
            return None
        return [
            _Turn(index, start, max(start, self._said(text, messages[index], start, end)), end)
            for index, (start, end) in zip(answers, spans, strict=True)
        ]

    def _by_turns(self, text: str, messages: Sequence[Message], tools: Sequence[Any] | None) -> list[_Turn] | None:
        turns: list[_Turn] = []
        for index in (index for index, message in enumerate(messages) if _is_answer(message)):
            before = self._template.render(messages[:index], tools, generation_prompt=True)
            last = index + 1 == len(messages)
            through = text if last else self._template.render(messages[: index + 1], tools)
            if not (through.startswith(before) and text.startswith(through)):
                return None
            start = len(before) - self._opened if before.endswith(self._asks) else len(before)
            if text.startswith(self._prompt, start):  # some write a header that they do not ask with behind a result
                start += len(self._prompt)
            said = self._said(text, messages[index], start, len(through))
            if said < 0:
                return None
            turns.append(_Turn(index, start, said, len(through)))
        return turns

    def _by_contents(self, text: str, messages: Sequence[Message], tools: Sequence[Any] | None) -> list[_Turn] | None:
        return next((turns for _, turns in self._bounds(text, messages, tools)), None)

    def _bounds(
        self, text: str, messages: Sequence[Message], tools: Sequence[Any] | None
    ) -> Iterator[tuple[AnswerBounds, list[_Turn]]]:
        """Yield the bounds of all answers, for each depth of marks with which the template writes the same text."""
        for depth in DEPTHS:
            anchors = Anchors(messages, depth)
            try:
                places = anchors.places(self._template.render(anchors.messages, tools))
                if places is None or places.text != text:
                    continue
                bounds = AnswerBounds(places, anchors, self._template.render, tools, self._prompt, self._end)
                found = [(index, bounds.of(index)) for index, message in enumerate(messages) if _is_answer(message)]
            except REFUSALS:
                continue
            if all(parts for _, parts in found):
                yield bounds, [_Turn(index, *part) for index, parts in found for part in parts]

    def _closed(self, shaped: Shaped, turns: list[_Turn], how: str) -> Answers:
        """Let each answer reach to its end-of-turn token, included; add one where the last has none."""
        text, added, last = shaped.text, "", turns[-1]
        if not text[last.end :].strip() and not self._end.search(text, last.said):
            added = self.ends.missing(shaped.messages[last.index])
            text += added
        ends = [self._end_of_answer(text, turn) for turn in turns]
        spans = _joined([(turn.start, end) for turn, (end, _) in zip(turns, ends, strict=True)])
        return Answers(text, tuple(spans), how, ended=all(ended for _, ended in ends), added=added)

    def _end_of_answer(self, text: str, turn: _Turn) -> tuple[int, bool]:
        """Return where an answer ends, end-of-turn token included, and whether there is such a token."""
        found = self._end.search(text, turn.said, turn.end) or self._end_ahead.match(text, turn.end)
        return (found.end(), True) if found else (turn.end, False)

    def _said(self, text: str, message: Message, start: int, end: int) -> int:
        """Return where the last that an answer says ends, -1 where it is not there: a call is said after the content.

        It is looked for in front of what closes the turn first: "d" stands in "<|im_end|>", too.
        """
        calls = message.get("tool_calls")
        last = str(calls[-1]["function"]["name"]) if calls else str(message.get("content") or "").strip()
        for bound in (self._before_close(text, start, end), end):
            if (found := text.rfind(last, start, bound)) >= 0:
                return found + len(last)
        return -1

    def _before_close(self, text: str, start: int, end: int) -> int:
        """Return where the end tokens and white space begin with which a turn ends."""
        while True:
            end = start + len(text[start:end].rstrip())
            token = next((token for token in self.ends.tokens if text.endswith(token, start, end)), "")
            if not token:
                return end
            end -= len(token)

    def _is_prompted(self, text: str, messages: Sequence[Message], tools: Sequence[Any] | None) -> bool:
        answers = [index for index, message in enumerate(messages) if _is_answer(message)]
        if not answers:
            return True
        try:
            return text.startswith(self._template.render(messages[: answers[-1]], tools, generation_prompt=True))
        except REFUSALS:
            return False

    def _without_prompt(self, text: str, span: Span) -> Span:
        """Let an answer begin behind the generation prompt: some markers take in its end, or all of it."""
        start, end = span
        prompt = text.find(self._prompt, max(0, start - len(self._prompt)), end) if self._prompt else -1
        behind = prompt + len(self._prompt)
        return (behind, end) if 0 <= prompt <= start < behind else span

    def _generation_prompt(self) -> str:
        """Return what the template writes to have an answer begin, or "" where that is not to be had."""
        try:
            without = self._template.render(_PROBE[:1])
            prompt = self._template.render(_PROBE[:1], generation_prompt=True)
        except REFUSALS:
            return ""
        return prompt[len(without) :] if prompt.startswith(without) else ""


def _is_answer(message: Message) -> bool:
    return bool(message["role"] == "assistant")


def _one_of(tokens: Iterable[str]) -> str:
    """Return a pattern of any of these texts, the longest first."""
    return "|".join(map(re.escape, sorted(filter(None, tokens), key=len, reverse=True))) or "(?!)"


def _with_own_thought(said: str, content: str) -> str:
    """Return an answer with the reasoning that stands in its content, for templates that cut it off everywhere."""
    answer = content.rpartition("</think>")[2].strip()
    if "</think>" not in content or "</think>" in said or not (answer and said.endswith(answer)):
        return said
    return said[: -len(answer)].rstrip() + content.strip()


def _joined(spans: list[Span]) -> list[Span]:
    """Return spans that touch as one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _without(length: int, spans: Iterable[Span]) -> Iterable[Span]:
    """Yield what of a text is outside of the spans."""
    done = 0
    for start, end in spans:
        if done < start:
            yield done, start
        done = end
    if done < length:
        yield done, length


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
