"""What of a dataset is used: rows left out by hand, and keys that the chat template reads or nobody does."""

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.checks import checks_of
from qlora_studio.engine.data.prepared import PreparedData, prepare_datasets
from qlora_studio.engine.data.row_files import VERDICTS
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.templates.message_keys import message_keys
from qlora_studio.storage.runs.run_folder import RunFolder

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message['content'] }}"
    "{% if 'tools' in message %}{{ message.tools | tojson }}{% endif %}"
    "{% if message.get('refusal') %}{{ message.refusal | trim }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def context(tmp_path: Path) -> Iterable[JobContext]:
    made = JobContext(RunFolder(tmp_path / "run"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return tokenizer_of(tiny_llama)


def chat(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}]}


def prepared(folder: Path, rows: list[Any], tokenizer: Any, context: JobContext, **data: Any) -> PreparedData:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    config = from_mapping({"data": {"path": str(path), **data}, "training": {"max_length": 64}})
    return prepare_datasets(config, tokenizer, context.folder, context)


def test_rows_left_out_by_hand_are_not_trained_are_counted_and_come_back(
    tmp_path: Path, tokenizer: Any, context: JobContext
) -> None:
    rows = [chat(f"Is it {number % 10}?", "Yes.") for number in range(20)]
    data = prepared(tmp_path, rows, tokenizer, context)
    key = next(row["key"] for row in data.tally.listing if row["number"] == 3)
    without = prepared(tmp_path, rows, tokenizer, context, exclude=[key, "0123456789abcdef"])
    used = {*without.training["row"]} | {*(without.evaluation["row"] if without.evaluation else ())}
    assert used == set(range(20)) - {3, 13}  # they say the same
    assert without.facts.excluded_rows == 2
    verdicts = [json.loads(line) for line in (without.folder / VERDICTS).read_text("utf-8").splitlines()]
    assert [(row["line"], row["verdict"]) for row in verdicts if row["verdict"] != "duplicate"] == [
        (4, "excluded"),
        (14, "excluded"),
    ]
    config = from_mapping({"data": {"exclude": [key, "0123456789abcdef"]}})
    check = next(item for item in checks_of(without, config, None, with_trainer=False) if item.name == "rows_excluded")
    assert not check.passed and "0123456789abcdef" in check.message and key not in check.message
    assert len(prepared(tmp_path, rows, tokenizer, context).training) == len(data.training)


def test_what_a_row_is_refused_for_by_its_template_stands_in_the_file_of_problems(
    tmp_path: Path, tokenizer: Any, context: JobContext
) -> None:
    rows = [chat("Is it?", "Yes."), chat("long " * 100, "No."), chat("Is it so?", "Yes.")]
    data = prepared(tmp_path, rows, tokenizer, context, evaluation_share=0)
    verdicts = [json.loads(line) for line in (data.folder / VERDICTS).read_text("utf-8").splitlines()]
    assert [(row["file"], row["line"], row["verdict"]) for row in verdicts] == [("rows.jsonl", 2, "untrainable")]
    assert "beyond the max length" in verdicts[0]["reason"]


def test_keys_that_the_template_renders_are_used_and_the_others_are_counted(
    tmp_path: Path, tokenizer: Any, context: JobContext
) -> None:
    rows = [
        chat("Is it?", "Yes.", refusal=" I will not. ", id="a"),
        chat("Was it?", "Yes.", refusal="Never."),
        chat("Will it?", "Yes.", annotations=[{"start": 1}]),
    ]
    other = copy.deepcopy(tokenizer)
    other.chat_template = TEMPLATE
    data = prepared(tmp_path, rows, other, context, evaluation_share=0)
    assert data.tally.unread == [{"messages[].id": 1, "messages[].annotations": 1}]
    assert "I will not." in other.decode(data.training[0]["input_ids"])
    plain = prepared(tmp_path, rows, tokenizer, context, evaluation_share=0)
    assert plain.tally.unread[0]["messages[].refusal"] == 2
    told = [event.message for event in context.folder.events() if event.type == "warned"]
    assert any("messages[].refusal" in message for message in told)


def test_the_keys_that_a_template_asks_messages_for_are_found_in_it() -> None:
    assert {"role", "content", "tools", "refusal"} <= message_keys(TEMPLATE)
    assert "tools" not in message_keys("{% if tools %}{{ tools | tojson }}{% endif %}{{ messages[0]['content'] }}")
    assert message_keys({"default": "{{ m.name }}", "tool_use": "{{ m['id'] }}"}) == {"name", "id"}
    assert message_keys(None) == frozenset()
