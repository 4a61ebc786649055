"""What rows of each format become, what is repaired by name, and what is refused in which words."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlora_studio.core.config.run_config import RunConfig, all_settings
from qlora_studio.core.data.example import Example
from qlora_studio.core.data.formats import (
    FORMATS,
    convert,
    detect,
    form_of_mapping,
    format_choices,
    format_words,
)
from qlora_studio.core.data.proposal import proposed_mapping, unknown_reason
from qlora_studio.core.data.row_notes import Reading
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.turn_marks import MARKS
from qlora_studio.core.data.values import BINARY

USER = {"role": "user", "content": "Why?"}
ANSWER = {"role": "assistant", "content": "Because."}
CALL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def converted(record: dict[str, Any], mapping: dict[str, str] | None = None) -> tuple[Example, str]:
    example, notes = convert(record, form_of_mapping(mapping or {}) or detect(record), Reading(mapping or {}))
    return example, ", ".join(notes.repairs)


def unread(record: dict[str, Any], mapping: dict[str, str] | None = None) -> list[str]:
    _, notes = convert(record, form_of_mapping(mapping or {}) or detect(record), Reading(mapping or {}))
    return [*notes.unread]


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
        ({"messages": [message("user", True), ANSWER]}, "message 1 (user) is true, not text"),
        ({"messages": [message("user", " \n"), ANSWER]}, "message 1 (user) is empty"),
        ({"messages": [USER, message("assistant", "")]}, "message 2 (assistant) is empty"),
        ({"messages": [USER, message("assistant", None)]}, "message 2 (assistant) is null"),
        ({"messages": [USER]}, "there is no assistant's turn to learn from"),
        ({"messages": [USER, message("tool", "x")]}, "there is no assistant's turn to learn from"),
        (
            {"messages": [message("user", [{"type": "image"}]), ANSWER]},
            "message 1 holds a picture (a part of type",
        ),
        ({"messages": [USER, message("assistant", "x", weight=0.5)]}, "message 2: weight is a number (0.5)"),
        ({"messages": [USER, message("assistant", "x", loss="some")]}, "message 2: loss is text, but a turn"),
        (
            {"messages": [USER, message("assistant", "x", train=True, masked=True)]},
            "message 2: its marks train and masked contradict each other",
        ),
        ({"messages": "{"}, "the conversation is text, but not JSON"),
        ({"instruction": "x", "output": [5]}, "'output' is a list, not text"),
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


def test_the_order_of_roles_is_left_to_the_template() -> None:
    late, result = message("system", "Be brief."), message("tool", "x")
    for turns in ([ANSWER], [USER, USER, ANSWER], [ANSWER, late, USER, ANSWER], [late, late, result, ANSWER, ANSWER]):
        example, repairs = converted({"messages": turns})
        assert (example.messages, repairs) == (tuple(turns), "")


def test_a_column_of_context_stands_before_the_prompt() -> None:
    record = {"passage": "Rome is old.", "question": "Is it?", "answer": "Yes.", "id": 7}
    mapping = {"context": "passage", "prompt": "question", "completion": "answer"}
    example, _ = converted(record, mapping)
    assert example.messages[0]["content"] == "Rome is old.\n\nIs it?"
    assert unread(record) == ["passage", "id"]
    assert unread(record, mapping) == ["id"]


@pytest.mark.parametrize(
    ("record", "paths"),
    [
        ({"id": 1, "messages": [USER, ANSWER], "tools": None}, ["id"]),
        (
            {"instruction": "x", "input": "i", "context": "c", "output": "y", "text": "t", "n": None},
            ["context", "text"],
        ),
        ({"prompt": "x", "completion": "y", "score": 1}, ["score"]),
        ({"text": "x", "url": "u", "system": "s"}, ["url", "system"]),
        ({"messages": [message("user", "x", id=7, name="Ann"), ANSWER]}, ["messages[].id", "messages[].name"]),
        ({"messages": [USER, message("assistant", "x", refusal="no", audio=None)]}, ["messages[].refusal"]),
        (
            {"messages": [USER, message("assistant", None, tool_calls=[{**CALL, "index": 3}])]},
            ["messages[].tool_calls[].index"],
        ),
        (
            {"messages": [message("user", [{"type": "text", "text": "x", "cache_control": {"a": 1}}]), ANSWER]},
            ["messages[].content[].cache_control"],
        ),
        ({"messages": [USER, message("assistant", "x", reasoning="r", thought="t")]}, ["messages[].thought"]),
        (
            {
                "conversations": [
                    {"from": "human", "value": "x", "lang": "en"},
                    {"from": "gpt", "value": "y", "loss": 1},
                ]
            },
            ["conversations[].lang"],
        ),
    ],
)
def test_what_nobody_reads_is_named_at_every_depth(record: dict[str, Any], paths: list[str]) -> None:
    assert unread(record) == paths


def test_a_key_that_the_template_reads_is_kept_with_its_message() -> None:
    record = {
        "messages": [message("system", "s", tools=[TOOL], lang="en"), USER, message("assistant", "x", refusal="no")]
    }
    example, notes = convert(record, "messages", Reading(template_keys=frozenset({"refusal", "tools"})))
    assert example.messages[0] == message("system", "s", tools=[TOOL])
    assert example.messages[2]["refusal"] == "no"
    assert [*notes.unread] == ["messages[].tools", "messages[].lang", "messages[].refusal"]
    example, notes = convert(record, "messages", Reading())
    assert (example.tools, [*notes.repairs]) == ((TOOL,), ["took the tools of a turn for those of the conversation"])


TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {}}}
CALLED = message("assistant", "", tool_calls=[CALL])
RESULT = message("tool", "Rain", tool_call_id="c1")


@pytest.mark.parametrize(
    ("turns", "messages"),
    [
        ([USER, message("assistant", None, tool_calls=json.dumps([CALL]))], [USER, CALLED]),
        ([USER, message("assistant", "", tool_calls=[json.dumps(CALL)])], [USER, CALLED]),
        ([json.dumps(USER), json.dumps(ANSWER)], [USER, ANSWER]),
        ({"role": ["user", "assistant"], "content": ["Why?", "Because."]}, [USER, ANSWER]),
        ([message("user", ["Why?"]), ANSWER], [USER, ANSWER]),
        (["Why?", "Because.", "Why?", "Because."], [USER, ANSWER, USER, ANSWER]),
        ([message("user", [{"type": "text", "value": "Why?"}]), ANSWER], [USER, ANSWER]),
        ([message("user", [{"type": "input_text", "text": "Why?"}]), ANSWER], [USER, ANSWER]),
        ([USER, message("assistant", "Because.", function_call=json.dumps(CALL["function"]))], [USER, CALLED | ANSWER]),
        (
            [
                USER,
                CALLED,
                message("tool", {"temp": 3}),
                message("tool", [1, {"a": None}]),
                message("tool", 1.5),
                ANSWER,
            ],
            [
                USER,
                CALLED,
                message("tool", '{"temp": 3}'),
                message("tool", '[1, {"a": null}]'),
                message("tool", "1.5"),
                ANSWER,
            ],
        ),
        (
            [
                USER,
                message("tool_call", '{"name": "weather", "arguments": {"city": "Bern"}}'),
                message("tool_response", "Rain"),
                ANSWER,
            ],
            [USER, CALLED, message("tool", "Rain"), ANSWER],
        ),
        (
            [USER, *[message("tool_call", json.dumps(CALL["function"]))] * 2, message("tool_response", "Rain"), ANSWER],
            [USER, message("assistant", "", tool_calls=[CALL, CALL]), message("tool", "Rain"), ANSWER],
        ),
        (
            [
                USER,
                message(
                    "assistant",
                    [
                        {"type": "thinking", "thinking": "Hm."},
                        {"type": "text", "text": "I look."},
                        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Bern"}},
                    ],
                ),
                message(
                    "user",
                    [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "Rain"}]}],
                ),
                ANSWER,
            ],
            [
                USER,
                message("assistant", "I look.", reasoning_content="Hm.", tool_calls=[{"id": "c1", **CALL}]),
                RESULT,
                ANSWER,
            ],
        ),
        (
            [
                USER,
                message(
                    "assistant",
                    [
                        {"type": "reasoning", "value": "Hm."},
                        {"type": "tool_call", "value": json.dumps(CALL["function"])},
                    ],
                ),
            ],
            [USER, message("assistant", "", reasoning_content="Hm.", tool_calls=[CALL])],
        ),
        ([message("user", 2), message("assistant", 4.5)], [message("user", "2"), message("assistant", "4.5")]),
        ([{"from": "human", "content": "Why?"}, {"from": "gpt", "content": "Because."}], [USER, ANSWER]),
        ([{"role": "user", "value": "Why?"}, {"role": "assistant", "content": "Because."}], [USER, ANSWER]),
    ],
)
def test_the_forms_that_people_write_say_the_same(turns: Any, messages: list[dict[str, Any]]) -> None:
    example, _ = converted({"messages": turns})
    assert [*example.messages] == messages


@pytest.mark.parametrize(
    "tools",
    [
        json.dumps([TOOL]),
        [json.dumps(TOOL)],
        TOOL,
        [{"type": "function", "function": json.dumps(TOOL["function"])}],
        [{"name": "weather", "input_schema": {}}],
        [{"function_declarations": [TOOL["function"]]}],
        [TOOL["function"]],
        [{"type": "function", "name": "weather", "parameters": {}}],
    ],
)
def test_tools_are_read_in_every_form_and_told_as_repaired(tools: Any) -> None:
    example, repairs = converted({"messages": [USER, ANSWER], "tools": tools})
    assert example.tools == (TOOL,)
    assert "tool" in repairs
    assert converted({"messages": [USER, ANSWER], "functions": [TOOL["function"]]})[0].tools == (TOOL,)


@pytest.mark.parametrize(
    "call",
    [
        {"name": "weather", "arguments": {"city": "Bern"}},
        {"name": "weather", "parameters": {"city": "Bern"}},
        {"type": "tool_use", "name": "weather", "input": {"city": "Bern"}},
        {"function": "weather", "args": {"city": "Bern"}},
        {"function": {"name": "weather", "arguments": '{"city": "Bern"}'}},
        {"function": '{"name": "weather", "arguments": {"city": "Bern"}}'},
    ],
)
def test_calls_are_read_in_every_form(call: dict[str, Any]) -> None:
    record = {"messages": [USER, message("assistant", "", tool_calls=[call])]}
    assert converted(record)[0].messages[1] == CALLED
    assert unread(record) == []


def test_xlam_rows_are_questions_answered_by_calls() -> None:
    bare = {"name": "weather", "description": "d", "parameters": {"city": {"type": "str"}}}
    record = {"id": 1, "query": "Why?", "answers": json.dumps([CALL["function"]]), "tools": json.dumps([bare])}
    example, repairs = converted(record)
    assert example == Example((USER, CALLED), ({"type": "function", "function": bare},))
    assert (repairs, unread(record)) == ("", ["id"])


def test_glaive_rows_are_conversations_in_one_text() -> None:
    function = {"name": "weather", "description": "d", "parameters": {"type": "object"}}
    chat = (
        'USER: Why?\n\n\nASSISTANT: <functioncall> {"name": "weather", "arguments": \'{"city": "Bern"}\'} '
        '<|endoftext|>\n\n\nFUNCTION RESPONSE: {"rain": true}\n\n\nASSISTANT: Because. <|endoftext|>'
    )
    record = {"system": f"SYSTEM: Help. Use them -\n{json.dumps(function, indent=4)}\n", "chat": chat}
    example, repairs = converted(record)
    assert example.messages == (
        message("system", "Help. Use them -"),
        USER,
        CALLED,
        message("tool", '{"rain": true}'),
        ANSWER,
    )
    assert example.tools == ({"type": "function", "function": function},)
    assert (repairs, unread(record)) == ("", [])


def test_a_system_column_and_a_system_turn_are_both_kept() -> None:
    turns = [
        {"from": "system", "value": "Turn."},
        {"from": "human", "value": "Why?"},
        {"from": "gpt", "value": "Because."},
    ]
    example, repairs = converted({"system": "Column.", "conversations": turns})
    assert example.messages == (message("system", "Column.\n\nTurn."), USER, ANSWER)
    assert repairs == "put the system text of the row in front of that of the conversation"
    assert converted({"system": "Turn.", "conversations": turns}) == (
        Example((message("system", "Turn."), USER, ANSWER)),
        "",
    )


@pytest.mark.parametrize(
    ("record", "mapping"),
    [
        ({"id": 0, "chat": [USER, ANSWER]}, {"conversation": "chat"}),
        (
            {"chat": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
            {"conversation": "chat"},
        ),
        (
            {"dialog": [{"speaker": "Ann", "text": "Why?"}, {"speaker": "Bob", "text": "Because."}]},
            {
                "conversation": "dialog",
                "role": "speaker",
                "content": "text",
                "user_role": "Ann",
                "assistant_role": "Bob",
            },
        ),
        (
            {"messages": [message("user", "Why?"), message("Agent 7", "Because.")]},
            {"conversation": "messages", "assistant_role": "Agent 7"},
        ),
        ({"document": "Why?", "summary": "Because."}, {"prompt": "document", "completion": "summary"}),
    ],
)
def test_a_mapping_is_proposed_where_it_is_plain_and_reads_the_row(
    record: dict[str, Any], mapping: dict[str, str]
) -> None:
    assert proposed_mapping(record) == mapping
    assert converted(record, mapping)[0] == Example((USER, ANSWER))


@pytest.mark.parametrize(
    "record",
    [
        {"a": 1, "b": "x"},
        {"items": [{"name": "x", "text": "y"}]},
        {"segments": [{"label": True, "text": "x"}, {"label": False, "text": "y"}]},
        {"messages": [message("user", [{"type": "image"}]), ANSWER]},
        {"chat": [USER, message("assistant", "")]},
        {
            "chat": [
                {"role": "wizard", "content": "x"},
                {"role": "imp", "content": "y"},
                {"role": "orc", "content": "z"},
            ]
        },
        {"rows": [{"q": 1}, {"q": 2}]},
    ],
)
def test_nothing_is_proposed_where_it_is_not_plain(record: dict[str, Any]) -> None:
    assert proposed_mapping(record) == {}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            {"conversations": [{"from": "human", "value": "x"}], "chosen": {"a": 1}, "rejected": {"a": 2}},
            "preference data",
        ),
        ({"messages": [USER, ANSWER], "rejected_response": "z"}, "preference data (column 'rejected_response')"),
        ({"messages": [USER, message("assistant", "x", train_detail=[{}])]}, "train_detail marks parts of it"),
        ({"prompt": "x", "completion": "y", "label": False}, "marked as a bad example (label)"),
        ({"messages": [USER, ANSWER], "kto_tag": False}, "marked as a bad example (kto_tag)"),
        (
            {"image": "0.jpg", "conversations": [{"from": "human", "value": "<image>x"}]},
            "comes with a picture (column 'image')",
        ),
        ({"messages": [USER, ANSWER], "audios": [BINARY]}, "comes with sound (column 'audios')"),
        ({"messages": [message("user", [{"type": "image_url", "image_url": {}}]), ANSWER]}, "holds a picture"),
    ],
)
def test_comparisons_and_pictures_are_named(record: dict[str, Any], words: str) -> None:
    assert words in refusal(record)


def test_a_mapping_takes_the_text_of_a_row_with_pictures() -> None:
    record = {"image": BINARY, "question": "Why?", "answer": "Because."}
    assert converted(record, {"prompt": "question", "completion": "answer"})[0] == Example((USER, ANSWER))
    assert converted({"messages": [USER, ANSWER], "images": []}) == (Example((USER, ANSWER)), "")


def test_an_empty_instruction_leaves_the_input_as_the_question() -> None:
    example, repairs = converted({"instruction": "", "input": "Why?", "output": "Because."})
    assert (example, repairs) == (
        Example((USER, ANSWER)),
        "took the input for the question, as the instruction is empty",
    )
    assert converted({"instruction": "2+2?", "output": 4})[0].messages[1] == message("assistant", "4")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"role": "user", "content": "x"}, "a single message"),
        ({"version": "1", "data": [{"question": "x"}]}, "in the list 'data'"),
        ({"id": 0, "chat": [USER, ANSWER]}, "with this mapping of columns: conversation = chat"),
        ({"a": 1, "b": 2}, "they are: a, b"),
    ],
)
def test_a_row_of_no_known_format_is_told_what_it_may_be(record: dict[str, Any], words: str) -> None:
    assert words in unknown_reason(record)


def test_a_new_format_arrives_by_its_record_alone(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(all_settings.cache_clear)
    all_settings.cache_clear()
    quiz = replace(
        FORMATS["text"],
        title="Quiz",
        matches=lambda columns, _record: "riddle" in columns,
        read=lambda record, _notes: Example(text=record.get("riddle")),
    )
    monkeypatch.setitem(FORMATS, "quiz", quiz)
    riddle = "What walks on three legs in the evening?"
    row: dict[str, Any] = {"riddle": riddle, "id": 3}
    assert converted(row) == (Example(text=riddle), "")
    assert unread(row) == ["id"]
    assert RunConfig().with_value("data.format", "quiz").data.format == "quiz"
    assert next(info for info in all_settings() if info.path == "data.format").choices["quiz"] == "Quiz"


def test_every_choice_of_a_run_but_auto_is_a_format_that_has_words_for_a_sentence() -> None:
    assert [*format_choices()] == ["auto", *FORMATS]
    assert format_words("sharegpt") == "ShareGPT conversations"
    assert format_words("") == "no known format"


EXTRA = st.dictionaries(
    st.from_regex(r"x_[a-z]{1,6}", fullmatch=True), st.integers(1, 9) | st.text("ab", min_size=1), max_size=2
)


@given(top=EXTRA, turn=EXTRA, call=EXTRA, function=EXTRA, part=EXTRA)
def test_whatever_is_put_into_a_row_is_read_or_named(
    top: dict[str, Any], turn: dict[str, Any], call: dict[str, Any], function: dict[str, Any], part: dict[str, Any]
) -> None:
    record = {
        "messages": [
            USER,
            message(
                "assistant",
                [{"type": "text", "text": "Because.", **part}],
                tool_calls=[{**CALL, **call, "function": {**CALL["function"], **function}}],
                **turn,
            ),
        ],
        **top,
    }
    named = [
        *(f"messages[].content[].{name}" for name in part),
        *(f"messages[].tool_calls[].{name}" for name in call),
        *(f"messages[].tool_calls[].function.{name}" for name in function),
        *(f"messages[].{name}" for name in turn),
        *top,
    ]
    assert sorted(unread(record)) == sorted(named)


def test_the_turns_before_a_question_are_read_beside_every_pair_of_columns() -> None:
    example, repairs = converted({"query": "3?", "response": "three", "history": [["1?", "one"], ["2?", "two"]]})
    assert [turn["content"] for turn in example.messages] == ["1?", "one", "2?", "two", "3?", "three"]
    assert not repairs


def test_encrypted_reasoning_costs_no_row() -> None:
    parts = [{"type": "redacted_thinking", "data": "RW5j"}, {"type": "text", "text": "Nine."}]
    example, _ = converted({"messages": [USER, {"role": "assistant", "content": parts}]})
    assert example.messages[-1] == {"role": "assistant", "content": "Nine."}
