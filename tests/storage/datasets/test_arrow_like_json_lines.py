"""A Parquet or Arrow file reads like the JSON Lines that it was made from, whoever made it, however Arrow lays it."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from qlora_studio.core.config.run_config import DataSection
from qlora_studio.core.data.example import Example
from qlora_studio.storage.datasets.reader import open_dataset

WORDS = [
    "Why?",
    "Rome is old.",
    "été 日本",
    "2020-01-02 is a day",
    '{"a": 1}',
    "null",
    "01",
    "a\nb",
    "NaN",
    "\U0001f600",
]
SETTINGS = {"city": "Bern", "days": 3, "exact": True, "at": {"lat": 46.9, "names": ["a", "b"]}, "none": []}
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {key: {"type": kind}}}},
    }
    for name, key, kind in (("weather", "city", "string"), ("clock", "zone", "string"), ("sum", "numbers", "array"))
]
FIXTURES = Path(__file__).parent / "arrow_files"


def examples(path: Path) -> list[Example | str]:
    rows = open_dataset(DataSection(path=str(path))).rows(with_raw=False)
    return [row.reason if row.example is None else row.example for row in rows]


def turn(chance: random.Random, number: int) -> dict[str, Any]:
    """Return an answer with keys, types and depths as they come in real rows: hardly two are alike."""
    found: dict[str, Any] = {"role": "assistant", "content": chance.choice(WORDS) + str(number)}
    if chance.random() < 0.4:
        found[chance.choice(["reasoning_content", "thinking", "reasoning"])] = chance.choice(WORDS)
    if chance.random() < 0.3:
        found["weight"] = chance.choice([0, 1])
    if chance.random() < 0.4:
        keys = chance.sample(sorted(SETTINGS), chance.randint(0, 3))
        call = {"name": chance.choice(["weather", "clock"]), "arguments": {key: SETTINGS[key] for key in keys}}
        found["tool_calls"] = [{"type": "function", "id": f"call0000{number}", "function": call}]
    return found


def rows_of(seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for number in range(chance.randint(2, 7)):
        row: dict[str, Any] = {
            "messages": [{"role": "user", "content": chance.choice(WORDS)}, turn(chance, number)] * chance.randint(1, 2)
        }
        if chance.random() < 0.5:
            row["tools"] = chance.sample(TOOLS, chance.randint(1, 3))
        rows.append(row)
    return rows


def json_lines(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "source.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("seed", range(12))
def test_what_datasets_writes_reads_like_the_json_lines_that_it_read(tmp_path: Path, seed: int) -> None:
    import datasets

    source = json_lines(tmp_path, rows_of(seed))
    made = datasets.Dataset.from_json(str(source), cache_dir=str(tmp_path / "cache"))
    made.to_parquet(str(tmp_path / "made.parquet"))
    made.save_to_disk(str(tmp_path / "saved"))
    wanted = examples(source)
    assert all(isinstance(example, Example) for example in wanted)
    assert examples(tmp_path / "made.parquet") == wanted
    assert examples(tmp_path / "saved") == wanted


@pytest.mark.parametrize("name", ["rows.parquet", "saved"])
def test_files_of_datasets_3_read_like_their_json_lines(name: str) -> None:
    assert examples(FIXTURES / name) == examples(FIXTURES / "rows.jsonl")


def laid_as(change: Callable[[pyarrow.DataType], pyarrow.DataType]) -> Callable[[pyarrow.DataType], pyarrow.DataType]:
    """Return what changes every text and list type within a type."""

    def changed(kind: pyarrow.DataType) -> pyarrow.DataType:
        if pyarrow.types.is_struct(kind):
            return pyarrow.struct([pyarrow.field(part.name, changed(part.type)) for part in kind])
        if pyarrow.types.is_list(kind):
            return change(pyarrow.list_(changed(kind.value_type)))
        return change(kind)

    return changed


LAYOUTS = {
    "large": lambda kind: (
        {"string": pyarrow.large_string()}.get(str(kind))
        or (pyarrow.large_list(kind.value_type) if pyarrow.types.is_list(kind) else kind)
    ),
    "views": lambda kind: (
        {"string": pyarrow.string_view()}.get(str(kind))
        or (pyarrow.list_view(kind.value_type) if pyarrow.types.is_list(kind) else kind)
    ),
    "dictionaries": lambda kind: (
        {"string": pyarrow.dictionary(pyarrow.int32(), pyarrow.string())}.get(str(kind)) or kind
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_the_same_however_arrow_lays_their_texts_and_lists(tmp_path: Path, layout: str) -> None:
    rows = [{"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": "x"}]} for word in WORDS]
    table = pyarrow.Table.from_pylist(rows)
    kind = laid_as(LAYOUTS[layout])(table.schema.field(0).type)
    schema = pyarrow.schema([pyarrow.field("messages", kind)])
    path = tmp_path / "rows.arrow"
    with pyarrow.ipc.new_file(path, schema) as writer:
        writer.write_table(
            pyarrow.Table.from_arrays([pyarrow.array([row["messages"] for row in rows], kind)], schema=schema)
        )
    assert examples(path) == examples(json_lines(tmp_path, rows))


def test_maps_dates_and_numbers_are_what_json_has_for_them(tmp_path: Path) -> None:
    import datetime
    import decimal

    arguments = pyarrow.array([[("city", "Bern"), ("zone", None)]], pyarrow.map_(pyarrow.string(), pyarrow.string()))
    function = pyarrow.StructArray.from_arrays([pyarrow.array(["w"]), arguments], ["name", "arguments"])
    call = pyarrow.StructArray.from_arrays([function], ["function"])
    turns = pyarrow.array([[{"role": "user", "content": "x"}]])
    answer = pyarrow.StructArray.from_arrays(
        [pyarrow.array(["assistant"]), pyarrow.array([""]), pyarrow.ListArray.from_arrays([0, 1], call)],
        ["role", "content", "tool_calls"],
    )
    more = {"day": [datetime.date(2020, 1, 2)], "price": [decimal.Decimal("1.50")], "n": [float("nan")]}
    table = pyarrow.table({"prompt": turns, "completion": pyarrow.ListArray.from_arrays([0, 1], answer), **more})
    parquet.write_table(table, tmp_path / "rows.parquet")
    row = next(open_dataset(DataSection(path=str(tmp_path / "rows.parquet"))).rows())
    assert row.example is not None, row.reason
    assert row.example.messages[1]["tool_calls"][0]["function"]["arguments"] == {"city": "Bern", "zone": None}
    assert {key: json.loads(row.raw)[key] for key in more} == {"day": "2020-01-02", "price": 1.5, "n": None}


def test_a_value_that_is_said_to_be_json_and_is_not_costs_its_row_alone(tmp_path: Path) -> None:
    turns = ['{"role": "user", "content": "x"}', '{"role": "assistant", "content": "y"}']
    kind = pyarrow.list_(pyarrow.json_())
    table = pyarrow.table(
        {"messages": pyarrow.array([turns, ["{", *turns], turns], pyarrow.list_(pyarrow.string())).cast(kind)}
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    first, broken, last = examples(tmp_path / "rows.parquet")
    assert first == last and isinstance(first, Example)
    assert broken == "a value of this row is said to be JSON, and is not"
