"""Which answers of a conversation are learned, and what is done where a template does not take it as it is."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from jinja2 import TemplateError

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.engine.templates.chat_template import ChatTemplate
from qlora_studio.engine.templates.loss_mask import AnswerFinder, Answers
from qlora_studio.engine.templates.shape import BEGUN, FOLDED, JOINED
from tests.engine.templates.chat_templates import installed_templates, said

NOW = datetime(2026, 11, 23)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED = CHATML.replace(
    "{{ m.content }}<|im_end|>",
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}",
)
STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
WRONG, RIGHT = said("assistant", "WRONG five"), said("assistant", "RIGHT four")
ASKED, SURE = said("user", "2+2?"), said("user", "Sure?")


def found(template: str, messages: Sequence[Any], **how: Any) -> Answers:
    return AnswerFinder(ChatTemplate(template, {}, NOW), ["<|im_start|>", "<|im_end|>"], "<|im_end|>", **how).find(
        messages
    )


def trained(answers: Answers) -> list[str]:
    return [answers.text[start:end] for start, end in answers.spans]


@pytest.mark.parametrize(
    "template", [CHATML, MARKED, installed_templates()["qwen3"]], ids=["chatml", "markers", "qwen3"]
)
def test_a_turn_marked_as_not_to_be_learned_is_masked_and_the_others_are_trained(template: str) -> None:
    wrong = {**WRONG, "trained": False}
    both = "".join(trained(found(template, [ASKED, wrong, SURE, RIGHT])))
    assert "RIGHT four<|im_end|>" in both and "WRONG" not in both
    answers = found(template, [ASKED, wrong, SURE, RIGHT])
    assert "WRONG" in answers.text and answers.unlearned == 1


def test_only_the_last_answer_is_learned_where_that_is_chosen() -> None:
    assert trained(found(CHATML, [ASKED, WRONG, SURE, RIGHT], learned="last")) == ["RIGHT four<|im_end|>"]


def test_only_marked_answers_are_learned_where_that_is_chosen() -> None:
    right = {**RIGHT, "trained": True}
    assert trained(found(CHATML, [ASKED, WRONG, SURE, right], learned="marked")) == ["RIGHT four<|im_end|>"]
    with pytest.raises(RowRefused, match="none of its answers is marked"):
        found(CHATML, [ASKED, WRONG], learned="marked")


def test_every_token_is_learned_but_those_of_turns_that_are_marked_otherwise() -> None:
    wrong = {**WRONG, "trained": False}
    spans = trained(found(CHATML, [ASKED, wrong, SURE, RIGHT], learned="all"))
    assert "WRONG" not in "".join(spans) and "2+2?" in spans[0] and spans[-1].endswith("RIGHT four<|im_end|>\n")


def test_a_row_whose_answers_are_all_marked_as_not_to_be_learned_is_refused_by_name() -> None:
    with pytest.raises(RowRefused, match="its answers are marked as not to be learned"):
        found(CHATML, [ASKED, {**WRONG, "trained": False}])


def test_what_a_template_takes_is_trained_in_whatever_order_it_stands() -> None:
    late = said("system", "French.")
    for messages in ([ASKED, SURE, RIGHT], [RIGHT], [ASKED, RIGHT, late, SURE, RIGHT], [late, late, RIGHT]):
        answers = found(CHATML, messages)
        assert "".join(trained(answers)) == "RIGHT four<|im_end|>" * messages.count(RIGHT)
        assert not answers.changed


def test_the_order_that_a_template_refuses_is_told_in_its_own_words() -> None:
    with pytest.raises(TemplateError, match="roles must alternate user/assistant"):
        found(STRICT, [ASKED, SURE, RIGHT])


def test_turns_of_the_same_role_are_joined_where_a_template_refuses_them_and_that_is_chosen() -> None:
    answers = found(STRICT, [ASKED, SURE, RIGHT, WRONG], joins=True)
    assert answers.text == "<user>2+2?\n\nSure?<|im_end|><assistant>RIGHT four\n\nWRONG five<|im_end|>"
    assert trained(answers) == ["RIGHT four\n\nWRONG five<|im_end|>"]
    assert answers.changed == (JOINED,)
    assert found(CHATML, [ASKED, SURE, RIGHT], joins=True).changed == ()


def test_system_prompts_that_are_joined_go_into_the_first_question_where_a_template_knows_none() -> None:
    answers = found(STRICT, [said("system", "Terse."), said("system", "French."), ASKED, RIGHT], joins=True)
    assert answers.changed == (JOINED, FOLDED) and "<user>Terse.\n\nFrench.\n\n2+2?" in answers.text


def test_turns_that_are_learned_and_turns_that_are_not_are_not_joined() -> None:
    with pytest.raises(TemplateError, match="alternate"):
        found(STRICT, [ASKED, {**WRONG, "trained": False}, RIGHT], joins=True)


def test_answers_before_the_first_question_are_left_out_where_a_template_refuses_them() -> None:
    answers = found(STRICT, [WRONG, ASKED, RIGHT])
    assert (trained(answers), answers.changed) == (["RIGHT four<|im_end|>"], (BEGUN,))


def test_a_system_prompt_goes_into_the_first_question_where_a_template_knows_none() -> None:
    answers = found(STRICT, [said("system", "Terse."), ASKED, RIGHT])
    assert answers.changed == (FOLDED,) and "<user>Terse.\n\n2+2?" in answers.text
