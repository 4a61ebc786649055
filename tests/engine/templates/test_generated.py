"""Every template with conversations of every structure: right, or refused by name, and never wrong.

The judges are transformers' rendering, the generation markers of trl's training templates, and words that were put
into the values (generated_conversations.py).
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any

import pytest
from jinja2 import TemplateError

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.engine.templates.chat_template import ChatTemplate
from qlora_studio.engine.templates.loss_mask import AnswerFinder, Answers, MaskUnavailable
from tests.engine.templates.chat_templates import CONTROL, by_transformers, installed_templates, training_twins
from tests.engine.templates.generated_conversations import Conversation, conversations

SEED = 20261125
REFUSED = (RowRefused, TemplateError, TypeError, ValueError, KeyError, AttributeError)
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
EOS = {  # what generation stops at, by the families' generation configs
    "cohere": "<|END_OF_TURN_TOKEN|>", "cohere2": "<|END_OF_TURN_TOKEN|>", "gemma": "<end_of_turn>",
    "gemma3": "<end_of_turn>", "glm4moe": "<|user|>", "phi3": "<|end|>", "phi3_5": "<|end|>",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(installed_templates())[::6])
def test_answers_of_a_few_conversations_are_trained_exactly_or_the_row_is_refused_by_name(name: str) -> None:
    outcomes = Counter(outcome for outcome, _, _ in _tried([name], 8))
    assert not outcomes["wrong"] and sum(outcomes.values()) == 8


@pytest.mark.slow
def test_answers_of_1_700_pairs_of_template_and_structure_are_trained_exactly_or_refused_by_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tried = list(_tried(sorted(installed_templates()), 40))
    outcomes = Counter(outcome for outcome, _, _ in tried)
    with capsys.disabled():
        print(f"\nseed {SEED}: {len(tried)} pairs: {dict(outcomes)}")
        print(Counter(why for outcome, why, _ in tried if outcome not in ("right", "wrong")).most_common())
    assert len(tried) >= 1500
    assert not [(where, why) for outcome, why, where in tried if outcome == "wrong"]
    assert outcomes["hidden"] <= 0.05 * len(tried)


@pytest.mark.parametrize("name", sorted(training_twins()))
def test_what_is_trained_is_what_trls_training_template_marks(name: str) -> None:
    differences = Counter(_twin_differences(name, 25))
    assert set(differences) <= {"", *_EXPLAINED.get(name, ())}, differences


# Where trl marks something else: {what it marks and we do not: why}. A start of a turn, which the prompt gives, is not
# counted; nor is white space.
_EXPLAINED = {
    "phi3": {"less </s>"},  # a second end, behind <|end|>, where the model has stopped already
    "phi3_5": {"less </s>"},
    "diffusion_gemma": {"more <|tool_response>"},  # what a call hands over with: the model stops there
}


def _twin_differences(name: str, count: int) -> Iterator[str]:
    original, twin = training_twins()[name]
    for conversation in islice(conversations(SEED), count):
        if any("trained" in message for message in conversation.messages):
            continue
        text, marked = _reference(twin, conversation, marks=True)
        if text is None:
            continue
        for keeps in (False, True):
            try:
                found = finder_of(name, keeps=keeps).find(conversation.messages, conversation.tools or None)
            except REFUSED:  # counted elsewhere
                continue
            if text in (found.text, found.text.removesuffix(found.added)):
                yield _difference(text, found.spans, marked, _header(original))
                break


def _difference(text: str, ours: Sequence[Any], theirs: Sequence[Any], header: str) -> str:
    here, there = (
        {index for start, end in spans for index in range(start, min(end, len(text))) if not text[index].isspace()}
        for spans in (ours, theirs)
    )
    more, less = (re.sub(r"\s+", " ", "".join(_runs(text, part))) for part in (here - there, there - here))
    for piece in (header, *CONTROL.findall(header), "<｜tool▁outputs▁end｜>"):
        less = less.replace(piece, "") if piece else less
    return " ".join(filter(None, (f"more {more}" if more else "", f"less {less}" if less.strip() else "")))


def _runs(text: str, indices: set[int]) -> Iterator[str]:
    found: Counter[str] = Counter()
    for group in re.finditer(
        r"1+", "".join("1" if index in indices or text[index].isspace() else "0" for index in range(len(text)))
    ):
        run = text[group.start() : group.end()].strip()
        if run and any(index in indices for index in range(*group.span())):
            found[run] = 1
    yield from found


def _tried(names: Sequence[str], count: int) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Yield what came of each pair, right, wrong, hidden, dropped or refused, with the reason and where."""
    for name in names:
        for number, conversation in enumerate(islice(conversations(SEED), count)):
            where = name, f"{number}: {conversation.kind}"
            try:
                found = finder_of(name).find(conversation.messages, conversation.tools or None)
            except MaskUnavailable as error:
                yield "hidden", error.reason, where
            except RowRefused as error:
                yield "dropped", error.reason, where
            except REFUSED as error:  # the template's own words, or what it stumbles over
                reference = _reference(installed_templates()[name], conversation)
                yield "refused" if reference[0] is None else "wrong", f"{type(error).__name__}: {error}"[:60], where
            else:
                problem = _problem(name, conversation, found)
                yield "wrong" if problem else "right", problem, where


def _problem(name: str, conversation: Conversation, found: Answers) -> str:
    """Return what is wrong with what is trained, by the words of the conversation."""
    text = found.text.removesuffix(found.added)
    spans = [found.text[start:end] for start, end in found.spans]
    if not found.changed and text not in _renderings(installed_templates()[name], conversation):
        return "another text than transformers'"
    for index, words in conversation.own.items():
        if found.changed and not any(word in text for word in words):
            continue
        there = [word for word in words if word in text or word not in conversation.droppable]
        if any(sum(word in span for span in spans) != 1 for word in there):
            return f"answer {index} is not trained, or twice: {there}"
        if len({span for span in spans for word in there if word in span}) > 1 and not _goes_on(
            text, there, conversation
        ):
            return f"answer {index} is torn: {there}"
    if stray := [word for word in conversation.others if any(word in span for span in spans)]:
        return f"trained, but not the model's: {stray}"
    header = _header(installed_templates()[name])
    if header and not header.startswith("<|start|>") and any(header in span for span in spans):
        return "the start of a turn is trained"
    last = spans[-1][max((spans[-1].rfind(word) for word in conversation.own[max(conversation.own)]), default=0) :]
    return "" if CONTROL.search(last) or not found.ended else "no end is trained"


def _goes_on(text: str, words: Sequence[str], conversation: Conversation) -> bool:
    """Whether what others say stands between the words of an answer: results in the middle of it."""
    places = sorted(text.index(word) for word in words)
    return any(word in text[places[0] : places[-1]] for word in conversation.others)


def _renderings(template: str, conversation: Conversation) -> list[str | None]:
    """Return transformers' renderings of the shapes in which a template may want calls."""
    found = []
    for as_text in (False, True):
        for without in (False, True):
            messages = [_shaped(message, as_text, without) for message in conversation.messages]
            found.append(_reference(template, conversation, messages)[0])
    return found


def _shaped(message: dict[str, Any], as_text: bool, without: bool) -> dict[str, Any]:
    shaped = {key: value for key, value in message.items() if key != "trained"}
    for call in shaped.get("tool_calls", ()) if as_text else ():
        function = {**call["function"], "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False)}
        shaped["tool_calls"] = [
            {**other, "function": function} if other is call else other for other in shaped["tool_calls"]
        ]
    return {key: value for key, value in shaped.items() if key != "content" or value or not without}


def _reference(
    template: str, conversation: Conversation, messages: Any = None, *, marks: bool = False
) -> tuple[str | None, list[Any]]:
    messages = messages or [_shaped(message, False, False) for message in conversation.messages]
    if _wants_parts(template):
        messages = [
            {**message, "content": [{"type": "text", "text": message.get("content", "")}]} for message in messages
        ]
    try:
        return by_transformers(template, messages, conversation.tools, VARIABLES, return_assistant_tokens_mask=marks)
    except REFUSED:
        return None, []


@cache
def _wants_parts(template: str) -> bool:
    try:
        text, _ = by_transformers(template, [{"role": "user", "content": "Ping"}], variables=VARIABLES)
    except REFUSED:
        return True
    return "Ping" not in text


@cache
def _header(template: str) -> str:
    """Return what a template writes to begin an answer, without the reasoning that it may open."""
    question = [{"role": "user", "content": [{"type": "text", "text": "Ping"}] if _wants_parts(template) else "Ping"}]
    try:
        with_prompt, without = (
            by_transformers(template, question, variables=VARIABLES, add_generation_prompt=prompt)[0]
            for prompt in (True, False)
        )
    except REFUSED:
        return ""
    prompt = with_prompt.removeprefix(without) if with_prompt.startswith(without) else ""
    return prompt.partition("<think>")[0].strip()


def header_of(name: str) -> str:
    """Return what a template of a name writes to begin an answer."""
    return _header(installed_templates()[name])


@cache
def finder_of(name: str, *, keeps: bool = False) -> AnswerFinder:
    source = installed_templates()[name]
    tokens = {*CONTROL.findall(source), *VARIABLES.values()}
    return AnswerFinder(
        ChatTemplate(source, VARIABLES, datetime.now()), sorted(tokens), EOS.get(name, "</s>"), keeps=keeps
    )
