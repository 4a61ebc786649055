"""What rows of each format become, what is repaired by name, and what is refused in which words."""

from dataclasses import replace
from typing import Any

import pytest

from qlora_studio.core.data.example import Example
from qlora_studio.core.data.formats import (
    FORMATS,
    convert,
    detect,
    form_of_mapping,
    format_choices,
    format_words,
    unknown_reason,
    unused_columns,
)
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.turn_marks import MARKS
from qlora_studio.core.run.run_config import RunConfig, all_settings

USER = {"role": "user", "content": "Why?"}
ANSWER = {"role": "assistant", "content": "Because."}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def converted(record: dict[str, Any], mapping: dict[str, str] | None = None) -> tuple[Example, str]:
    return convert(record, form_of_mapping(mapping or {}) or detect(record), mapping or {})


def refusal(record: dict[str, Any]) -> str:
    with pytest.raises(RowRefused) as caught:
        converted(record)
    return caught.value.reason


@pytest.mark.parametrize(
    ("record", "form"),
    [
        ({"messages": [USER, ANSWER]}, "messages"),
        ({"prompt": "x", "messages": [USER, ANSWER]}, "messages"),
        ({"messages": '[{"role": "user"}]'}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": None, "text": "x"}, "text"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "sharegpt"),
        ({"messages": [{"from": "human", "value": "x"}]}, "sharegpt"),
        ({"conversations": [USER, ANSWER]}, "messages"),
        ({"instruction": "x", "input": "", "output": "y", "text": "z"}, "alpaca"),
        ({"instruction": "x", "context": "c", "response": "y", "category": "z"}, "alpaca"),
        ({"prompt": "x", "completion": "y"}, "prompt_completion"),
        ({"question": "x", "answer": "y"}, "question_answer"),
        ({"system_prompt": "s", "question": "x", "response": "y"}, "question_answer"),
        ({"text": "x"}, "text"),
        ({"document": "x", "summary": "y"}, ""),
        ({"prompt": "x", "chosen": "y", "rejected": "z"}, ""),
        ({}, ""),
    ],
)
def test_a_record_is_known_by_its_columns(record: dict[str, Any], form: str) -> None:
    assert detect(record) == form


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [USER, ANSWER]},
        {"messages": [{"content": "Why?", "role": "user"}, ANSWER], "id": 3},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
        {"conversations": [{"from": "user", "value": "Why?"}, {"from": "chatgpt", "value": "Because."}]},
        {"instruction": "Why?", "input": "", "output": "Because."},
        {"prompt": "Why?", "completion": "Because."},
        {"prompt": [USER], "completion": [ANSWER]},
        {"question": "Why?", "answer": "Because."},
    ],
)
def test_every_format_says_the_same_and_needs_no_repair(record: dict[str, Any]) -> None:
    assert converted(record) == (Example((USER, ANSWER)), "")


def test_text_keeps_its_white_space() -> None:
    assert converted({"text": "  a\r\n\tb \u200b"}) == (Example(text="  a\r\n\tb \u200b"), "")


def test_alpaca_puts_the_input_under_the_instruction_and_the_history_before() -> None:
    record = {
        "instruction": "Add.",
        "input": "2, 3",
        "output": "5",
        "system": "You count.",
        "history": [["1, 1", "2"], ["1, 2", "3"]],
    }
    example, repairs = converted(record)
    assert [entry["content"] for entry in example.messages] == [
        "You count.",
        "1, 1",
        "2",
        "1, 2",
        "3",
        "Add.\n\n2, 3",
        "5",
    ]
    assert not repairs


def test_a_mapping_takes_the_columns_it_names() -> None:
    record = {"document": "Why?", "summary": "Because.", "style": "Be short.", "text": "other"}
    example, repairs = converted(record, {"prompt": "document", "completion": "summary", "system": "style"})
    assert example == Example((message("system", "Be short."), USER, ANSWER))
    assert not repairs
    assert converted(record, {"text": "summary"})[0] == Example(text="Because.")


def test_tools_and_their_calls_are_kept() -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    record = {
        "tools": [tool],
        "messages": [
            USER,
            message("assistant", None, tool_calls=[{**CALL, "id": "c1"}]),
            message("tool", "Rain", tool_call_id="c1", name="weather"),
            message("assistant", "It rains.", reasoning_content="Rain, so it rains."),
        ],
    }
    example, repairs = converted(record)
    assert not repairs
    assert example.tools == (tool,)
    assert example.messages[1] == message("assistant", "", tool_calls=[{"id": "c1", **CALL}])
    assert example.messages[2]["tool_call_id"] == "c1"
    assert example.messages[3]["reasoning_content"] == "Rain, so it rains."


@pytest.mark.parametrize(
    ("record", "messages", "repair"),
    [
        (
            {"messages": [message("developer", "Be kind."), USER, ANSWER]},
            (message("system", "Be kind."), USER, ANSWER),
            "read the role 'developer' as system",
        ),
        (
            {"messages": [message("User", "Why?"), ANSWER]},
            (USER, ANSWER),
            "read the role 'User' as user",
        ),
        (
            {"messages": [message("user", [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}]), ANSWER]},
            (USER, ANSWER),
            "joined the text parts of a message",
        ),
        (
            {"messages": [message("system", ""), USER, ANSWER]},
            (USER, ANSWER),
            "left out an empty system message",
        ),
        (
            {"messages": [USER, ANSWER, message("user", "And?")]},
            (USER, ANSWER),
            "left out what follows the last answer",
        ),
        (
            {"messages": '[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]'},
            (USER, ANSWER),
            "read the conversation from JSON text",
        ),
        (
            {
                "messages": [
                    USER,
                    message(
                        "assistant", "", tool_calls=[{"function": {"name": "weather", "arguments": '{"city": "Bern"}'}}]
                    ),
                ]
            },
            (USER, message("assistant", "", tool_calls=[CALL])),
            "read the arguments of a tool call from JSON text",
        ),
    ],
)
def test_what_is_repaired_is_named(record: dict[str, Any], messages: tuple[dict[str, Any], ...], repair: str) -> None:
    assert converted(record) == (Example(messages), repair)


@pytest.mark.parametrize(
    ("marks", "trained"),
    [({mark: value}, (value in (1, "True")) == says) for mark, says in MARKS.items() for value in (0, 1, False, "True")]
    + [({"weight": None}, None), ({}, None), ({"weight": 1.0, "masked": False}, True)],
)
def test_marks_say_whether_a_turn_is_learned(marks: dict[str, Any], trained: bool | None) -> None:
    example, repairs = converted({"messages": [USER, message("assistant", "5", **marks), USER, ANSWER]})
    assert example.messages[1].get("trained") is trained
    assert not repairs
    assert example.messages[3] == ANSWER


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"reasoning": "So."}, {"reasoning": "So."}),
        ({"thinking": "So.", "reasoning_content": None}, {"thinking": "So."}),
        ({"thought": "So."}, {"reasoning_content": "So."}),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "So."}]}, {"reasoning_content": "So."}),
        ({"reasoning": "So.", "reasoning_details": [{"text": "So."}]}, {"reasoning": "So."}),
        ({"thinking_blocks": [{"thinking": "S"}, {"thinking": "o."}]}, {"reasoning_content": "So."}),
    ],
)
def test_reasoning_is_found_under_the_names_that_it_has(more: dict[str, Any], found: dict[str, str]) -> None:
    example, repairs = converted({"messages": [USER, message("assistant", "Because.", **more)]})
    assert example.messages[1] == {**ANSWER, **found}
    assert bool(repairs) is not bool(found.keys() & more.keys())


def test_a_sharegpt_function_call_becomes_a_tool_call() -> None:
    turns = [
        {"from": "human", "value": "Why?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Bern"}}'},
        {"from": "observation", "value": "Rain"},
        {"from": "gpt", "value": "Because."},
    ]
    example, repairs = converted({"conversations": turns})
    assert example.messages == (USER, message("assistant", "", tool_calls=[CALL]), message("tool", "Rain"), ANSWER)
    assert not repairs


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"messages": None}, "'messages' is null"),
        ({"messages": []}, "the conversation is empty"),
        ({"messages": [None]}, "message 1 is null, not an object"),
        ({"messages": [{"content": "x"}]}, "message 1 has no 'role'"),
        ({"messages": [{"role": "user"}, ANSWER]}, "message 1 (user) has no 'content'"),
        ({"messages": [message("wizard", "x"), ANSWER]}, "message 1 has the unknown role 'wizard'"),
        ({"messages": [message("user", 12), ANSWER]}, "message 1 (user) is a number (12), not text"),
        ({"messages": [message("user", True), ANSWER]}, "message 1 (user) is true, not text"),
        ({"messages": [message("user", " \n"), ANSWER]}, "message 1 (user) is empty"),
        ({"messages": [USER, message("assistant", "")]}, "message 2 (assistant) is empty"),
        ({"messages": [USER, message("assistant", None)]}, "message 2 (assistant) is null"),
        ({"messages": [USER]}, "there is no assistant's turn to learn from"),
        ({"messages": [ANSWER]}, "there is no question, only answers"),
        ({"messages": [USER, USER, ANSWER]}, "messages 1 and 2 are both from the user"),
        ({"messages": [USER, ANSWER, message("system", "x"), USER, ANSWER]}, "message 3 is a system message"),
        ({"messages": [USER, message("tool", "x")]}, "message 2 is a tool's result, but no answer stands before it"),
        ({"messages": [message("user", [{"type": "image"}]), ANSWER]}, "message 1 holds a part of type 'image'"),
        ({"messages": [USER, message("assistant", "x", weight=0.5)]}, "message 2: weight is a number (0.5)"),
        ({"messages": [USER, message("assistant", "x", loss="some")]}, "message 2: loss is text, but a turn"),
        (
            {"messages": [USER, message("assistant", "x", train=True, masked=True)]},
            "message 2: its marks train and masked contradict each other",
        ),
        ({"messages": "{"}, "the conversation is text, but not JSON"),
        ({"instruction": "x", "output": 5}, "'output' is a number (5), not text"),
        ({"instruction": "x", "output": None}, "'output' is null, not text"),
        (
            {"instruction": "x", "output": "y", "history": [["a"]]},
            "history: entry 1 is not a pair of question and answer",
        ),
        ({"prompt": "x", "completion": [USER]}, "completion does not begin with the assistant's turn"),
        ({"text": ""}, "'text' is empty"),
        ({"messages": [USER, ANSWER], "tools": "x"}, "tools is text, but not JSON"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_plain_words(record: dict[str, Any], words: str) -> None:
    assert words in refusal(record)


def test_keys_tell_examples_apart_and_near_keys_forgive_case_and_punctuation() -> None:
    first = Example((USER, ANSWER))
    again = Example((dict(USER), dict(ANSWER)))
    near = Example((message("user", "why"), message("assistant", "BECAUSE !")))
    other = Example((message("user", "Why"), message("assistant", "?Because.")))
    assert first.key() == again.key() != near.key()
    assert first.near_key() == near.near_key()
    assert len({first.key(), near.key(), other.key(), Example(text="Why?Because.").key()}) == 4


def test_answers_before_the_first_question_are_left_out_and_the_rest_is_learned() -> None:
    system = message("system", "Be brief.")
    example, repairs = convert({"messages": [system, ANSWER, message("tool", "x"), USER, ANSWER]}, "messages", {})
    assert example.messages == (system, USER, ANSWER)
    assert repairs == "left out what stands before the first question"


def test_a_column_of_context_stands_before_the_prompt() -> None:
    record = {"passage": "Rome is old.", "question": "Is it?", "answer": "Yes.", "id": 7}
    mapping = {"context": "passage", "prompt": "question", "completion": "answer"}
    example, _ = convert(record, "question_answer", mapping)
    assert example.messages[0]["content"] == "Rome is old.\n\nIs it?"
    assert unused_columns(list(record), "question_answer", {}) == ("passage", "id")
    assert unused_columns(list(record), "question_answer", mapping) == ("id",)


@pytest.mark.parametrize(
    ("form", "columns", "unused"),
    [
        ("messages", ("id", "messages", "tools"), ("id",)),
        ("alpaca", ("instruction", "input", "output", "text"), ("text",)),
        ("prompt_completion", ("prompt", "completion", "score"), ("score",)),
        ("text", ("text", "url"), ("url",)),
        ("", ("a", "b"), ()),
    ],
)
def test_columns_that_nothing_is_learned_from_are_named(
    form: str, columns: tuple[str, ...], unused: tuple[str, ...]
) -> None:
    assert unused_columns(columns, form, {}) == unused


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"role": "user", "content": "x"}, "a single message"),
        ({"version": "1", "data": [{"question": "x"}]}, "in the list 'data'"),
        ({"a": 1, "b": 2}, "they are: a, b"),
    ],
)
def test_a_row_of_no_known_format_is_told_what_it_may_be(record: dict[str, Any], words: str) -> None:
    assert words in unknown_reason(record)


def test_a_new_format_arrives_by_its_record_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    quiz = replace(
        FORMATS["text"],
        title="Quiz",
        matches=lambda columns, _record: "riddle" in columns,
        read=lambda record, _mapping, _repairs: Example(text=record["riddle"]),
        columns=lambda _columns: ("riddle",),
    )
    monkeypatch.setitem(FORMATS, "quiz", quiz)
    riddle = "What walks on three legs in the evening?"
    row: dict[str, Any] = {"riddle": riddle, "id": 3}
    assert converted(row) == (Example(text=riddle), "")
    assert unused_columns(list(row), detect(row), {}) == ("id",)
    assert RunConfig().with_value("data.format", "quiz").data.format == "quiz"
    assert next(info for info in all_settings() if info.path == "data.format").choices["quiz"] == "Quiz"


def test_every_choice_of_a_run_but_auto_is_a_format_that_has_words_for_a_sentence() -> None:
    assert [*format_choices()] == ["auto", *FORMATS]
    assert format_words("sharegpt") == "ShareGPT conversations"
    assert format_words("") == "a format that is not known"
