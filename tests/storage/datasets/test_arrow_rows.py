"""Parquet and Arrow files, and the folders that `datasets` and the hub make of them."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from qlora_studio.core.config.run_config import DataSection
from qlora_studio.core.data.row_verdict import RowVerdict
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.datasets.reader import DatasetReader, open_dataset

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}


def opened(path: Path, **config: Any) -> DatasetReader:
    return open_dataset(DataSection(path=str(path), **config))


def table(*texts: str) -> pyarrow.Table:
    return pyarrow.table({"text": list(texts)})


def write_stream(path: Path, data: pyarrow.Table) -> None:
    with pyarrow.ipc.new_stream(path, data.schema) as writer:
        writer.write_table(data)


def test_fields_that_arrow_adds_to_every_struct_are_absent(tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Why?"},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
            ]
        },
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
        {"messages": None},
    ]
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    read = list(opened(path).rows())
    assert [row.verdict for row in read] == [RowVerdict.OK, RowVerdict.OK, RowVerdict.REJECTED]
    assert read[0].example and read[0].example.messages[1]["tool_calls"] == [CALL]
    assert read[1].example and read[1].example.messages == (
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "y"},
    )
    assert [(row.line, row.offset) for row in read] == [(1, -1), (2, -1), (3, -1)]
    assert json.loads(read[1].raw)["messages"][1] == {"role": "assistant", "content": "y"}


def test_a_text_that_is_not_utf8_costs_its_row_alone(tmp_path: Path) -> None:
    data = pyarrow.array([b"one", b"caf\xe9", b"three"], pyarrow.binary())
    column = pyarrow.StringArray.from_buffers(3, data.buffers()[1], data.buffers()[2])
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": column}), path)
    rows = list(opened(path).rows())
    assert [row.example and row.example.text for row in rows] == ["one", None, "three"]
    assert rows[1].reason == "a text of this row is not UTF-8"


def test_two_columns_of_one_name_and_a_file_without_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    columns = [pyarrow.array(["a"]), pyarrow.array(["b"])]
    parquet.write_table(pyarrow.Table.from_arrays(columns, names=["text", "text"]), path)
    with pytest.raises(StudioError, match="two columns 'text'"):
        list(opened(path).rows())
    path.write_bytes(b"")
    with pytest.raises(StudioError, match="it has no bytes"):
        opened(path)


def test_columns_of_bytes_are_left_aside_and_other_values_are_shown(tmp_path: Path) -> None:
    import datetime

    path = tmp_path / "rows.parquet"
    data = {"text": ["a"], "blob": [{"bytes": b"\xff"}], "when": [datetime.datetime(2020, 1, 2)], "n": [float("nan")]}
    parquet.write_table(pyarrow.table(data), path)
    row = next(opened(path).rows())
    assert row.verdict is RowVerdict.OK
    assert json.loads(row.raw) == {"text": "a", "when": "2020-01-02T00:00:00", "n": None, "blob": "(binary data)"}


def test_a_saved_dataset_is_read_in_the_order_of_its_state(tmp_path: Path) -> None:
    names = ["data-00001-of-00002.arrow", "data-00000-of-00002.arrow"]
    for name, text in zip(names, ("first", "second"), strict=True):
        write_stream(tmp_path / name, table(text))
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (tmp_path / "dataset_info.json").write_text("{}")
    rows = list(opened(tmp_path).rows())
    assert [(row.number, row.line, row.file, row.example and row.example.text) for row in rows] == [
        (0, 1, names[0], "first"),
        (1, 1, names[1], "second"),
    ]
    (tmp_path / names[1]).unlink()
    with pytest.raises(StudioError) as caught:
        opened(tmp_path)
    assert caught.value.kind == "data_not_found"


def test_an_arrow_file_is_read_as_a_stream_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    with pyarrow.ipc.new_file(path, table("a").schema) as writer:
        writer.write_table(table("a", "b"))
    assert [row.example and row.example.text for row in opened(path).rows()] == ["a", "b"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StudioError) as caught:
        list(opened(path).rows())
    assert caught.value.kind == "data_refused"
