"""Reasoning and calls are a part of the answer, in every turn; what a template drops of them is told, or kept."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from qlora_studio.engine.templates.chat_template import ChatTemplate
from qlora_studio.engine.templates.completeness import BESIDE, EARLIER, LAST, TOOLS, Incomplete
from qlora_studio.engine.templates.loss_mask import AnswerFinder, Answers
from tests.engine.templates.chat_templates import by_transformers, installed_templates, said, training_twins

NOW = datetime(2026, 11, 23)
TOKENS = ["<|im_start|>", "<|im_end|>", "<|start|>", "<|end|>", "<|return|>", "<|call|>", "<|message|>", "<|channel|>"]
WEATHER = {
    "type": "function",
    "function": {
        "name": "getw",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "A city."}}},
    },
}
THOUGHT = (
    said("user", "USR1"),
    said("assistant", "AST2", reasoning_content="THK2 aa"),
    said("user", "USR3"),
    said("assistant", "AST4", reasoning_content="THK4 bb"),
)
WITHIN = (
    said("user", "USR1"),
    said("assistant", "<think>\nTHK2 aa\n</think>\n\nAST2"),
    said("user", "USR3"),
    said("assistant", "<think>\nTHK4 bb\n</think>\n\nAST4"),
)


def call(city: str, number: int = 1) -> dict[str, Any]:
    return {"id": f"abcdefgh{number}", "type": "function", "function": {"name": "getw", "arguments": {"city": city}}}


def result(text: str, number: int = 1) -> dict[str, Any]:
    return said("tool", text, name="getw", tool_call_id=f"abcdefgh{number}")


def found(name: str, messages: Sequence[Any], tools: Any = None, **how: Any) -> Answers:
    template = ChatTemplate(installed_templates()[name], {"bos_token": "<s>", "eos_token": "</s>"}, NOW)
    end = "<｜end▁of▁sentence｜>" if name.startswith("deepseek") else "<|im_end|>"
    return AnswerFinder(template, [*TOKENS, end], end, **how).find(messages, tools)


def trained(answers: Answers) -> list[str]:
    return [answers.text[start:end] for start, end in answers.spans]


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "qwen3_5_nothink", "qwen3_6"])
@pytest.mark.parametrize("messages", [THOUGHT, WITHIN], ids=["apart", "within"])
def test_reasoning_that_stands_in_the_text_is_trained_whatever_the_prompt_shows(name: str, messages: Any) -> None:
    assert trained(found(name, messages))[-1] == "<think>\nTHK4 bb\n</think>\n\nAST4<|im_end|>"


@pytest.mark.parametrize("messages", [THOUGHT, WITHIN], ids=["apart", "within"])
def test_reasoning_that_a_template_drops_is_told_by_what_it_was(messages: Any) -> None:
    answers = found("qwen3", messages)
    assert (answers.lost, answers.dropped) == ((EARLIER,), ("THK2 aa",))
    assert found("qwen2_5", THOUGHT).lost == (LAST, EARLIER)


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "qwen3_5_nothink", "qwen3_6"])
@pytest.mark.parametrize("messages", [THOUGHT, WITHIN], ids=["apart", "within"])
def test_kept_reasoning_makes_the_text_that_trls_training_template_makes(name: str, messages: Any) -> None:
    answers = found(name, messages, keeps=True)
    assert answers.text == by_transformers(training_twins()[name][1], messages)[0]
    assert [span.partition("</think>")[0] for span in trained(answers)] == ["<think>\nTHK2 aa\n", "<think>\nTHK4 bb\n"]
    assert (answers.how, answers.lost, answers.dropped) == ("kept", (), ())


def test_a_template_that_cuts_reasoning_off_everywhere_keeps_it_where_that_is_chosen() -> None:
    answers = found("deepseek_r1_distill", WITHIN, keeps=True)
    twin = training_twins()["deepseek_r1_distill"][1]
    assert answers.text == by_transformers(twin, WITHIN, variables={"bos_token": "<s>", "eos_token": "</s>"})[0]


@pytest.mark.parametrize("name", ["qwen3_5_think", "qwen3", "llama3_1", "nemotron_3_nano", "qwen2_5"])
def test_turns_of_calls_alone_are_trained_in_longer_conversations(name: str) -> None:
    flow = [said("user", "USR1"), said("assistant", "", tool_calls=[call("ROME2")]), result("TUL3")]
    flow += [said("assistant", "AST4"), said("user", "USR5"), said("assistant", "AST6")]
    first, second, third = trained(found(name, flow, [WEATHER]))
    assert "getw" in first and "ROME2" in first and "AST4" in second and "AST6" in third
    assert "TUL3" not in first + second + third


def test_text_and_call_of_one_turn_are_trained_together() -> None:
    turn = said("assistant", "AST2 let me see", tool_calls=[call("ROME2")])
    flow = [said("user", "USR1"), turn, result("TUL3"), said("assistant", "AST4")]
    first, second = trained(found("qwen3", flow, [WEATHER]))
    assert "AST2 let me see" in first and "ROME2" in first and "AST4" in second


def test_text_that_a_template_drops_beside_a_call_is_told_and_the_call_is_trained() -> None:
    turn = said("assistant", "AST2 let me see", tool_calls=[call("ROME2")])
    flow = [said("user", "USR1"), turn, result("TUL3"), said("assistant", "AST4")]
    answers = found("llama3_1", flow, [WEATHER])
    assert answers.lost == (BESIDE,) and "ROME2" in trained(answers)[0] and "AST4" in trained(answers)[1]


def test_a_second_call_that_a_template_drops_is_missed_even_where_the_question_names_its_place() -> None:
    calls = said("assistant", "", tool_calls=[call("ROME2"), call("OSLO2", 2)])
    flow = [said("user", "ROME2 and OSLO2?"), calls, result("TUL3"), result("TUL4", 2), said("assistant", "AST5")]
    with pytest.raises(Incomplete, match="leaves out a tool call"):
        found("gptoss", flow, [WEATHER])
    assert "OSLO2" in trained(found("qwen3", flow, [WEATHER]))[0]


def test_a_result_that_a_template_drops_is_missed_even_where_it_equals_another() -> None:
    first = "{% for m in messages %}{% if m.role != 'tool' or loop.index < 4 %}{{ m.content }}|{% endif %}{% endfor %}"
    flow = [
        said("user", "USR1"),
        said("assistant", "AST2"),
        result("same"),
        result("same", 2),
        said("assistant", "AST5"),
    ]
    with pytest.raises(Incomplete, match="leaves out a tool's result"):
        AnswerFinder(ChatTemplate(first, {}, NOW), [], "").find(flow)


def test_definitions_of_tools_that_a_template_drops_are_told() -> None:
    assert found("gemma3", [said("user", "USR1"), said("assistant", "AST2")], [WEATHER]).lost == (TOOLS,)
