"""A row may set variables of the template, and none that stands for the conversation or the template itself."""

import json
from typing import Any

import pytest

from qlora_studio.core.config.run_config_text import from_mapping, from_toml, to_toml
from qlora_studio.core.data.example import Example
from qlora_studio.core.data.formats import convert
from qlora_studio.core.data.row_notes import Reading
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.template_variables import variables_text
from qlora_studio.core.errors import InvalidRunConfig

_TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]


def read(variables: Any) -> tuple[Example, str]:
    record = {"messages": _TURNS, "chat_template_kwargs": variables}
    example, notes = convert(record, "messages", Reading())
    return example, ", ".join(notes.repairs)


@pytest.mark.parametrize("variables", [{"enable_thinking": False, "n": 2}, {"instructions": "Be kind: ü"}, {"a": [1]}])
def test_a_rows_variables_are_read_as_an_object_and_as_json_text(variables: dict[str, Any]) -> None:
    example, repaired = read(variables)
    assert (example.variables, repaired) == (variables, "")
    example, repaired = read(json.dumps(variables))
    assert example.variables == variables
    assert repaired == "read the template's variables from JSON text"


@pytest.mark.parametrize("nothing", [None, "", {}, {"enable_thinking": None}])
def test_nothing_is_set_by_what_is_null_or_empty(nothing: Any) -> None:
    assert read(nothing)[0].variables is None


@pytest.mark.parametrize(
    "name", ["messages", "chat_template", "tools", "add_generation_prompt", "tokenize", "eos_token", "strftime_now"]
)
def test_no_row_and_no_run_replaces_the_conversation_or_the_template(name: str) -> None:
    with pytest.raises(RowRefused, match=f"'{name}'"):
        read({name: "x"})
    with pytest.raises(InvalidRunConfig, match=name):
        from_mapping({}, [f'data.template_variables={{"{name}": "x"}}'])


@pytest.mark.parametrize("value", ["true", [1], 3, "{not json"])
def test_a_column_that_is_no_object_refuses_its_row(value: Any) -> None:
    with pytest.raises(RowRefused, match="chat_template_kwargs"):
        read(value)


def test_rows_that_differ_in_a_variable_alone_are_no_duplicates() -> None:
    keys = {read(variables)[0].key() for variables in (None, {"a": 1}, {"a": 2})}
    assert len(keys) == 3


def test_the_column_is_not_among_what_nobody_reads() -> None:
    record = {"messages": _TURNS, "chat_template_kwargs": {"a": 1}, "id": 7}
    assert list(convert(record, "messages", Reading())[1].unread) == ["id"]


def test_a_runs_variables_and_date_are_kept_in_its_file() -> None:
    config = from_mapping({}, ['data.template_variables={"enable_thinking": false}', "data.template_date=2026-05-01"])
    again = from_toml(to_toml(config))
    assert again.data.template_variables == {"enable_thinking": False}
    assert again.data.template_date == "2026-05-01"
    assert variables_text(again.data.template_variables) == "enable_thinking = false"


@pytest.mark.parametrize(
    "wrong", ['data.template_variables={"a": null}', "data.template_date=1 May", 'data.template_variables={"a b": 1}']
)
def test_what_is_no_variable_and_no_date_is_refused_in_words(wrong: str) -> None:
    with pytest.raises(InvalidRunConfig) as caught:
        from_mapping({}, [wrong])
    assert caught.value.problems[0].field.startswith("data.template_")
