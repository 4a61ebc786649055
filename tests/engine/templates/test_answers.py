"""Answers are found in templates that leave turns open, refuse half a conversation, or shorten what was said."""

from datetime import datetime

import pytest

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.engine.templates.chat_template import ChatTemplate
from qlora_studio.engine.templates.loss_mask import AnswerFinder
from tests.engine.templates.chat_templates import said

NOW = datetime(2026, 11, 23)
OPEN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
WHOLE_ONLY = (
    "{% if messages[-1].role != 'assistant' %}{{ raise_exception('no') }}{% endif %}"
    "{% for m in messages %}[{{ m.content }}<e>{% endfor %}"
)
WITHOUT_THOUGHTS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}<e>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def finder(template: str) -> AnswerFinder:
    return AnswerFinder(ChatTemplate(template, {}, NOW), ["<e>"], "<e>")


def test_a_conversation_without_an_answer_has_none_and_can_be_trained_whole() -> None:
    question = [said("user", "Why?")]
    with pytest.raises(RowRefused, match="no answer"):
        finder(OPEN).answers(question)
    whole = finder(OPEN).whole(question)
    assert (whole.text, whole.spans, whole.prompted) == ("user: Why?\n<e>", ((0, 14),), True)


def test_an_answer_that_the_template_leaves_open_is_closed() -> None:
    found = finder(OPEN).answers([said("user", "Why?"), said("assistant", "Because.")])
    assert [found.text[start:end] for start, end in found.spans] == ["Because.\n<e>"]
    assert (found.added, found.ended) == ("<e>", True)


def test_a_template_that_refuses_half_a_conversation_is_asked_for_contents() -> None:
    found = finder(WHOLE_ONLY).answers([said("user", "Why?"), said("assistant", "Because.")])
    assert found.how == "contents"
    assert [found.text[start:end] for start, end in found.spans] == ["Because.<e>"]
    assert found.ended


def test_an_answer_whose_thoughts_the_template_drops_is_found_by_its_contents() -> None:
    found = finder(WITHOUT_THOUGHTS).answers([said("user", "Why?"), said("assistant", "<think>Hm.</think>Because.")])
    assert found.how == "contents"
    assert [found.text[start:end] for start, end in found.spans] == ["Because.<e>"]
