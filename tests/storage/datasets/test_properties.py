"""What the reader holds for every file, however broken: its own errors only, each row once, accepted text unchanged."""

import csv
import gzip
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from qlora_studio.core.config.run_config import DataSection
from qlora_studio.core.data.row_verdict import ReadRow, RowVerdict
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.datasets.reader import open_dataset

SUFFIXES = [
    ".jsonl",
    ".json",
    ".csv",
    ".tsv",
    ".txt",
    ".parquet",
    ".arrow",
    ".jsonl.gz",
    ".json.zst",
    ".csv.gz",
    ".txt.zst",
]
OUR_KINDS = {"data_not_found", "data_refused"}
LIMIT = 2000
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
CONTENT = st.one_of(TEXT, TEXT, TEXT, st.none(), st.integers(), st.booleans(), st.lists(TEXT, max_size=2))
ROLE = st.sampled_from(["user", "assistant", "system", "tool", "developer", "human", "gpt", "who?", 3, None])
TURN = st.fixed_dictionaries({"role": ROLE, "content": CONTENT}) | st.fixed_dictionaries(
    {"from": ROLE, "value": CONTENT}
)
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
NAMES = [
    "messages",
    "conversations",
    "instruction",
    "input",
    "output",
    "prompt",
    "completion",
    "text",
    "tools",
    "history",
]
RECORD = st.one_of(
    st.fixed_dictionaries({"messages": st.lists(TURN, max_size=4)}),
    st.fixed_dictionaries({"conversations": st.lists(TURN, max_size=4)}),
    st.fixed_dictionaries({"instruction": CONTENT, "input": CONTENT, "output": CONTENT}),
    st.fixed_dictionaries({"prompt": CONTENT, "completion": CONTENT}),
    st.fixed_dictionaries({"text": CONTENT}),
    st.dictionaries(st.sampled_from(NAMES), JSON_VALUE, max_size=4),
    JSON_VALUE,
)
# Pieces that break files: half characters, brackets, quotes, line ends, a BOM in the middle.
SHARDS = st.sampled_from(
    [
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\x00",
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b"\n",
        b"\r",
        b"NaN",
        b"\xef\xbb\xbf",
    ]
) | st.binary(min_size=1, max_size=6)

quick = settings(max_examples=80, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("datasets")


@quick
@given(data=st.binary(max_size=300), suffix=st.sampled_from(SUFFIXES))
def test_any_bytes_under_any_name_are_read_or_refused_in_our_own_words(folder: Path, data: bytes, suffix: str) -> None:
    check_invariants(folder, suffix, data)


@quick
@given(
    records=st.lists(RECORD, max_size=6),
    suffix=st.sampled_from([".jsonl", ".json", ".csv", ".txt", ".jsonl.gz", ".json.zst"]),
    cuts=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3), SHARDS), max_size=4),
    compress_first=st.booleans(),
)
def test_a_mutated_file_is_read_the_same_in_blocks_of_any_size(
    folder: Path, records: list[Any], suffix: str, cuts: list[tuple[int, int, bytes]], compress_first: bool
) -> None:
    data = written(records, suffix)
    data = mutated(compressed(data, suffix), cuts) if compress_first else compressed(mutated(data, cuts), suffix)
    check_invariants(folder, suffix, data)


@quick
@given(
    rows=st.lists(st.tuples(TEXT, TEXT), max_size=6),
    kind=st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.zst", ".csv.gz"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    ascii_only=st.booleans(),
)
def test_accepted_text_is_what_was_written_to_the_last_byte(
    folder: Path, rows: list[tuple[str, str]], kind: str, encoding: str, ascii_only: bool
) -> None:
    path = folder / f"rows{kind}"
    path.write_bytes(compressed(pairs_written(rows, kind, encoding, ascii_only), kind))
    config = DataSection(
        path=str(path), format="question_answer", encoding="utf-16" if encoding == "utf-16" else "utf-8"
    )
    read = list(open_dataset(config, block_size=37).rows())
    assert [row.verdict is not RowVerdict.REJECTED for row in read] == [bool(q.strip() and a.strip()) for q, a in rows]
    for row, pair in zip(read, rows, strict=True):
        if row.example is not None:
            assert tuple(message["content"] for message in row.example.messages) == pair


@quick
@given(lines=st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"")), max_size=8))
def test_garbage_between_json_lines_costs_its_own_line_and_no_other(folder: Path, lines: list[bytes]) -> None:
    good = b'{"text": "a whole row"}'
    path = folder / "garbage.jsonl"
    path.write_bytes(good + b"\n" + b"".join(line + b"\n" + good + b"\n" for line in lines))
    if path.read_bytes().count(b"\x00") * 4 >= path.stat().st_size:
        return
    rows = list(open_dataset(DataSection(path=str(path)), block_size=11).rows())
    assert len(rows) == 1 + len(lines) + sum(bool(line.strip(b" \t\r\n")) for line in lines)
    assert sum(row.example is not None and row.example.text == "a whole row" for row in rows) >= 1 + len(lines)


@quick
@given(
    elements=st.lists(st.sampled_from([b'{"text": NaN}', b'{"text": "a", "text": "b"}', b'{"a" 1}', b'"\x01"', b"tru"]))
)
def test_a_broken_element_of_an_array_costs_no_other_where_its_brackets_close(
    folder: Path, elements: list[bytes]
) -> None:
    parts = [b'{"text": "x, ]}{[ \\" y"}']
    for element in elements:
        parts += [element, b'{"text": "x, ]}{[ \\" y"}']
    path = folder / "elements.json"
    path.write_bytes(b"[" + b",\n".join(parts) + b"]")
    for block_size in (1, 5, 1 << 20):
        rows = list(open_dataset(DataSection(path=str(path)), block_size=block_size).rows())
        assert len(rows) == len(parts)
        assert sum(row.verdict is RowVerdict.OK for row in rows) == 1 + len(elements)


def check_invariants(folder: Path, suffix: str, data: bytes) -> None:
    """Read a file in blocks of several sizes; hold what the reader promises of every file."""
    path = folder / f"file{suffix}"
    path.write_bytes(data)
    read = [outcome(path, block_size) for block_size in (1, 7, 1 << 20)]
    assert read[0] == read[1] == read[2]
    rows = read[0]
    if isinstance(rows, list):
        assert [row.number for row in rows] == list(range(len(rows)))
        places = [(row.line, row.offset) for row in rows]
        assert places == sorted(places)
        for row in rows:
            assert (row.example is None) == (row.verdict is RowVerdict.REJECTED)
            assert bool(row.reason) == (row.verdict is not RowVerdict.OK)
            row.raw.encode()
            if row.example is not None:
                row.example.key()
                for message in row.example.messages:
                    assert message["role"] in ("system", "user", "assistant", "tool")
                    assert isinstance(message["content"], str)


def outcome(path: Path, block_size: int) -> list[ReadRow] | tuple[str, str]:
    """Return the rows, or what the error says; and hold that the survey counts the same rows."""
    try:
        reader = open_dataset(DataSection(path=str(path)), block_size=block_size, row_limit=LIMIT)
        rows = list(reader.rows())
        survey = open_dataset(DataSection(path=str(path)), block_size=block_size, row_limit=LIMIT).survey()
    except StudioError as error:
        assert error.kind in OUR_KINDS
        assert error.message and error.advice
        return error.kind, error.message
    assert (survey.total, survey.rejected) == (len(rows), sum(row.verdict is RowVerdict.REJECTED for row in rows))
    assert survey.ok == sum(row.verdict is RowVerdict.OK for row in rows)
    assert [found.row for found in survey.first_rejections] == [row.number for row in rows if row.example is None]
    json.dumps(asdict(survey))
    return rows


def written(records: list[Any], suffix: str) -> bytes:
    """Return the records as a file of that kind, as Python's json writes them: NaN and all."""
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    if suffix.startswith(".json") and not suffix.startswith(".jsonl"):
        return f"[{', '.join(lines)}]".encode("utf-8", "surrogatepass")
    if suffix == ".csv":
        return b"text,n\n" + b"".join(f'"{line}",1\n'.encode("utf-8", "surrogatepass") for line in lines)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def pairs_written(rows: list[tuple[str, str]], kind: str, encoding: str, ascii_only: bool) -> bytes:
    """Return questions and answers as a file of that kind."""
    records = [{"question": question, "answer": answer} for question, answer in rows]
    if kind == ".parquet":
        import pyarrow
        from pyarrow import parquet

        sink = io.BytesIO()
        schema = pyarrow.schema({"question": pyarrow.string(), "answer": pyarrow.string()})
        parquet.write_table(pyarrow.Table.from_pylist(records, schema), sink, row_group_size=2)
        return sink.getvalue()
    if kind.startswith((".csv", ".tsv")):
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter="\t" if kind == ".tsv" else ",", quoting=csv.QUOTE_ALL)
        writer.writerows([("question", "answer"), *rows])
        return text.getvalue().encode(encoding)
    lines = [json.dumps(record, ensure_ascii=ascii_only) for record in records]
    if kind == ".json":
        return f"[\n{','.join(lines)}\n]".encode(encoding)
    return "".join(f"{line}\n" for line in lines).encode(encoding)


def compressed(data: bytes, suffix: str) -> bytes:
    """Return the data as the suffix says."""
    if suffix.endswith(".gz"):
        return gzip.compress(data, mtime=0)
    return zstandard.compress(data) if suffix.endswith(".zst") else data


def mutated(data: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    """Return the data with bytes taken out and others put in at some places."""
    for place, removed, added in cuts:
        at = place % (len(data) + 1)
        data = data[:at] + added + data[at + removed :]
    return data
