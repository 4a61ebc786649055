"""Files that are made to stop, slow or fill a reader: refused in words, or the row alone is."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from qlora_studio.core.config.run_config import DatasetSource
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.datasets.reader import ReadRow, open_dataset

_SOUND = b'{"text": "a"}\n'
_HOUR = pytest.mark.timeout(60)  # by the clock of a busy machine; what is refused here took minutes or never ended


def _rows(path: Path) -> list[ReadRow]:
    return list(open_dataset(DatasetSource(path=str(path))).rows())


def _reasons(path: Path) -> list[str]:
    return [row.reason for row in _rows(path)]


@_HOUR
def test_a_pipe_among_the_files_of_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "README.md")
    (tmp_path / "train.jsonl").write_bytes(_SOUND)

    assert len(_rows(tmp_path)) == 1

    (tmp_path / "train.jsonl").unlink()
    os.mkfifo(tmp_path / "train.jsonl")
    with pytest.raises(StudioError, match="no regular file"):
        _rows(tmp_path)


@_HOUR
def test_a_compressed_file_that_becomes_a_thousand_times_its_size_is_refused(tmp_path: Path) -> None:
    packed = zstandard.ZstdCompressor().compressobj()
    pieces = [packed.compress(b"x" * (1 << 20)) for _ in range(300)]
    (tmp_path / "rows.txt.zst").write_bytes(b"".join([*pieces, packed.flush()]))

    with pytest.raises(StudioError, match="becomes more than 500 times its size"):
        _rows(tmp_path / "rows.txt.zst")


@_HOUR
def test_the_patterns_of_a_readme_are_not_tried_in_every_way(tmp_path: Path) -> None:
    name = "a" * 200 + ".jsonl"
    (tmp_path / name).write_bytes(_SOUND)
    pattern = "*a" * 40 + "b.jsonl"
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: x\n  data_files: '{pattern}'\n---\n")

    assert len(_rows(tmp_path)) == 1


@_HOUR
@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b",".join(b"c%d" % number for number in range(200_000)), "more than 10,000 columns"),
        (b"," * (5 << 20), "too many cells"),
    ],
)
def test_a_header_of_very_many_columns_is_refused(tmp_path: Path, header: bytes, words: str) -> None:
    (tmp_path / "rows.csv").write_bytes(header + b"\na,b\n")

    with pytest.raises(StudioError, match=words):
        _rows(tmp_path / "rows.csv")


@_HOUR
@pytest.mark.parametrize("file", ["rows.jsonl", pytest.param("rows.json", marks=pytest.mark.slow)])
def test_a_row_that_takes_twenty_times_its_size_in_memory_is_rejected_alone(tmp_path: Path, file: str) -> None:
    rows = [b'{"text": [' + b"[]," * (1 << 20) + b"1]}", b'{"text": "b"}']
    joined = b"\n".join(rows) if file == "rows.jsonl" else b"[" + b",\n".join(rows) + b"]"
    (tmp_path / file).write_bytes(joined)

    reasons = _reasons(tmp_path / file)

    assert "more than 2,097,152 values" in reasons[0]
    assert reasons[1:] == [""]


@pytest.mark.parametrize("depth", [70, 930, 5000])
def test_a_row_that_is_nested_deeply_is_rejected_alone(tmp_path: Path, depth: int) -> None:
    deep = '{"text": "a", "more": ' + "[" * depth + "]" * depth + "}\n"
    (tmp_path / "rows.jsonl").write_text(deep + _SOUND.decode())

    reasons = _reasons(tmp_path / "rows.jsonl")

    assert "nested too deeply" in reasons[0]
    assert reasons[1:] == [""]


def test_json_within_a_text_is_read_within_the_same_limits(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    row = {"messages": turns, "tools": '[{"name": "f", "parameters": ' + '{"a":' * 300 + "1" + "}" * 301 + "]"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")

    assert "tools is text, but not JSON" in _reasons(tmp_path / "rows.jsonl")[0]


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "9" * 5000, "[1", '{"a": NaN}'])
def test_a_value_that_is_no_json_rejects_its_row_of_a_parquet_file_and_no_other(tmp_path: Path, value: str) -> None:
    sound = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
    column = pa.ExtensionArray.from_storage(pa.json_(), pa.array([sound, value, sound]))
    parquet.write_table(pa.table({"messages": column}), tmp_path / "rows.parquet")

    assert _reasons(tmp_path / "rows.parquet") == ["", "a value of this row is said to be JSON, and is not", ""]


@_HOUR
def test_a_text_of_a_dictionary_that_many_rows_share_is_not_copied_for_each(tmp_path: Path) -> None:
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * (65 << 20)]))
    parquet.write_table(pa.table({"text": shared}), tmp_path / "rows.parquet", compression="zstd")

    assert set(_reasons(tmp_path / "rows.parquet")) == {"the row is longer than 64 MiB"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": [{"role": "user", "content": [{"type": ["text"], "text": "a"}]}]}, "a part of type '['text']'"),
        ({"messages": [{"role": "tool", "content": [{"type": {}, "text": "a"}]}]}, "no assistant's turn"),
        ({"c": "o", "": "?"}, "the columns fit no known format"),
    ],
)
def test_a_row_of_odd_names_is_rejected_in_words(tmp_path: Path, row: dict[str, object], words: str) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")

    assert words in _reasons(tmp_path / "rows.jsonl")[0]


@_HOUR
@pytest.mark.parametrize(
    "chat", ["USER: a ASSISTANT: b" + "\n" * 100_000, 'USER: a\nASSISTANT: <functioncall> "arguments": \'' * 5]
)
def test_a_conversation_in_one_text_is_read_in_the_time_that_its_length_takes(tmp_path: Path, chat: str) -> None:
    _write(tmp_path / "rows.jsonl", [{"system": "SYSTEM: x", "chat": chat}])

    assert len(_rows(tmp_path / "rows.jsonl")) == 1


def _write(path: Path, rows: Iterable[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
