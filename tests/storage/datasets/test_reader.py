"""The reader on files of each kind: what a row becomes, where a bad one stands, what stops the whole."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from qlora_studio.core.config.run_config import DataSection
from qlora_studio.core.data.row_verdict import ReadRow, RowVerdict
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.datasets.reader import DatasetReader, open_dataset

Write = Callable[..., DatasetReader]
CHAT = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a file and opens it."""

    def write_and_open(name: str, data: bytes, row_limit: int = 1 << 20, **config: Any) -> DatasetReader:
        path = tmp_path / name
        path.write_bytes(data)
        return open_dataset(DataSection(path=str(path), **config), row_limit=row_limit)

    return write_and_open


def texts(rows: list[ReadRow]) -> list[str | None]:
    return [row.example.text if row.example else None for row in rows]


def refused(act: Callable[[], object]) -> StudioError:
    with pytest.raises(StudioError) as caught:
        act()
    return caught.value


def test_json_lines_say_line_and_offset_of_every_row_and_pass_over_blank_lines(write: Write) -> None:
    rows = list(write("rows.jsonl", '{"text": "é"}\n\n \r\n{"text": {}}\r\n{"text": "b"}'.encode()).rows())
    assert [(row.number, row.line, row.offset) for row in rows] == [(0, 1, 0), (1, 4, 19), (2, 5, 33)]
    assert [row.verdict for row in rows] == [RowVerdict.OK, RowVerdict.REJECTED, RowVerdict.OK]
    assert rows[1].raw == '{"text": {}}'
    assert texts(rows) == ["é", None, "b"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b'{"text": "a", "text": "b"}', "the name 'text' stands twice"),
        (b'{"text": NaN}', "NaN is not a JSON number"),
        (b'{"text": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"text": "a",}', "a name in double quotes is missing"),
        (b'{"text": "\\ud83d"}', "half of a character"),
        (b'{"text": "a\tb"}', "a control character stands in a text without its escape"),
        (b"{'text': 'a'}", "a name in double quotes is missing"),
        (b'{"text": "a"} {}', "more text follows at character 14"),
        (b'["text"]', "the row is a list, not an object"),
        (b'{"text": "caf\xe9"}', "0xE9"),
        (b'{"text": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"text": ' + b"1" * 5000 + b"}", "too many digits"),
        (b'{"text": ' + b'"' + b"x" * 3000, "a text is not closed"),
    ],
)
def test_what_is_not_strict_json_is_rejected_and_the_next_row_is_read(write: Write, row: bytes, words: str) -> None:
    rows = list(write("rows.jsonl", b'{"text": "first"}\n' + row + b'\n{"text": "next"}\n').rows())
    assert texts(rows) == ["first", None, "next"]
    assert words in rows[1].reason


def test_a_list_in_the_first_line_of_json_lines_costs_no_other_row(write: Write) -> None:
    assert texts(list(write("rows.jsonl", b'["text"]\n{"text": "next"}\n').rows())) == [None, "next"]
    assert texts(list(write("rows.jsonl", b'[{"text": "a"}, {"text": "b"}]\n').rows())) == ["a", "b"]
    assert texts(list(write("rows.jsonl", b'[\n{"text": "a"},\n{"text": "b"}]\n').rows())) == ["a", "b"]


def test_the_array_reader_goes_on_behind_a_broken_element(write: Write) -> None:
    broken = b'{"text": nope, "x": ["]", {}]}'
    data = b'\xef\xbb\xbf[ {"text": "a"},\n ' + broken + b', {"text": "b"}, , {"text": "c"} {"text": "d"}]\n!'
    rows = list(write("rows.json", data).rows())
    assert texts(rows) == ["a", None, "b", None, "c", None, None]
    assert [(row.line, row.offset) for row in rows[:3]] == [(1, 5), (2, 21), (2, 53)]
    assert "no row stands after the comma" in rows[3].reason
    assert "no comma stands before this row" in rows[5].reason
    assert "something follows the end" in rows[6].reason


def test_a_bare_number_in_an_array_is_one_row_wherever_a_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b"[0.25, -1e5, 12]")
    for block_size in (1, 2, 3, 5, 100):
        rows = list(open_dataset(DataSection(path=str(path)), block_size=block_size).rows())
        assert [row.raw for row in rows] == ["0.25", "-1e5", "12"]


def test_an_array_without_its_end_says_so(write: Write) -> None:
    rows = list(write("rows.json", b'[{"text": "a"}, {"text": "b"}').rows())
    assert texts(rows) == ["a", "b", None]
    assert "its end is missing" in rows[2].reason


def test_a_json_file_may_hold_a_row_per_line_but_not_one_object(write: Write) -> None:
    assert texts(list(write("rows.json", b'{"text": "a"}\n{"text": "b"}\n').rows())) == ["a", "b"]
    error = refused(lambda: write("rows.json", b'{\n "data": [{"text": "a"}]\n}').survey())
    assert error.kind == "data_refused"
    assert "one JSON object" in error.message


def test_objects_over_several_lines_are_named_where_a_row_per_line_is_due(write: Write) -> None:
    pretty = "\n".join(json.dumps({"text": text}, indent=2) for text in ("a", "b")).encode()
    assert "objects over several lines" in refused(lambda: write("rows.jsonl", pretty).survey()).message
    compact = b'{"text":\n"a"}\n'
    assert "objects over several lines" in refused(lambda: write("rows.jsonl", compact).survey()).message
    broken = write("rows.jsonl", b'{"text": "a"\n{"text": "b"}\n')
    assert texts(list(broken.rows())) == [None, "b"]


def test_a_bom_before_a_later_line_is_none_of_its_text(write: Write) -> None:
    line = b'\xef\xbb\xbf{"text": "a"}\n'
    rows = list(write("rows.jsonl", line * 3).rows())
    assert texts(rows) == ["a", "a", "a"]
    assert [row.offset for row in rows] == [3, 17, 34]


def test_a_file_of_zeros_is_called_no_text_and_not_utf16(write: Write) -> None:
    for data in (b"\x00" * 5000, b'{"text": "a"}\n' + b"\x00" * 5000):
        error = refused(lambda data=data: write("rows.jsonl", data).survey())  # type: ignore[misc]
        assert "bytes are zero" in error.message and "UTF-16" not in error.message


def test_a_row_beyond_the_limit_is_rejected_and_reading_goes_on(write: Write) -> None:
    long = json.dumps({"text": "x" * 200_000}).encode()
    for name, data in (
        ("rows.jsonl", long + b'\n{"text": "next"}'),
        ("rows.json", b"[" + long + b', {"text": "next"}]'),
        ("rows.txt", b"x" * 200_000 + b"\nnext"),
    ):
        rows = list(write(name, data, row_limit=100_000).rows())
        assert texts(rows) == [None, "next"]
        assert "longer than 100000 bytes" in rows[0].reason
        assert len(rows[0].raw) < 50_000


def test_csv_cells_stay_text(write: Write) -> None:
    data = b'question,answer,date\r\n"a ""q""\r\n\r\nb",007,2020-01-01\r\nNA,1e5,\r\n\r\nx,y\r\n"open,1\r\n'
    rows = list(write("rows.csv", data).rows())
    assert [row.example and [turn["content"] for turn in row.example.messages] for row in rows] == [
        ['a "q"\r\n\r\nb', "007"],
        ["NA", "1e5"],
        None,
        None,
    ]
    assert rows[2].reason == "the row has 2 cells, but the header has 3"
    assert "never closed" in rows[3].reason
    assert [(row.line, row.offset) for row in rows] == [
        (2, 22),
        (5, data.find(b"NA")),
        (7, data.find(b"x,y")),
        (8, data.find(b'"open')),
    ]


def test_the_header_tells_what_separates_the_cells(write: Write) -> None:
    rows = list(write("rows.csv", "question;answer\nÄ, ja;nein\n".encode()).rows())
    assert rows[0].example and rows[0].example.messages[0]["content"] == "Ä, ja"
    assert next(write("rows.tsv", b"question\tanswer\na,b\tc\n").rows()).verdict is RowVerdict.OK
    assert "stands there twice" in refused(lambda: write("rows.csv", b"text,text\na,b\n").survey()).message


def test_two_columns_are_read_by_a_mapping(write: Write) -> None:
    data = b"document,summary\nlong,short\n"
    assert next(write("rows.csv", data).rows()).reason.startswith("the columns fit no known format")
    mapped = write("rows.csv", data, mapping={"prompt": "document", "completion": "summary"})
    assert next(mapped.rows()).verdict is RowVerdict.OK
    assert mapped.survey().format == "question_answer"
    assert "half of a pair" in refused(lambda: write("rows.csv", data, mapping={"prompt": "document"})).message
    assert refused(lambda: write("rows.csv", data, mapping={"colour": "x"})).kind == "data_refused"


def test_a_mixed_file_is_reported_and_the_smaller_part_left_out(write: Write) -> None:
    lines = [CHAT, {"text": "a"}, CHAT, {"foo": 1}, {"text": "b"}, CHAT]
    reader = write("rows.jsonl", "\n".join(map(json.dumps, lines)).encode())
    survey = reader.survey()
    assert (survey.format, survey.mixed) == ("messages", True)
    assert survey.evidence == {"messages": 3, "text": 2, "": 1}
    assert (survey.total, survey.ok, survey.repaired, survey.rejected) == (6, 3, 0, 3)
    assert survey.exact_duplicates == 2
    assert survey.columns == {"messages": 3, "text": 2, "foo": 1}
    assert [(found.row, found.line) for found in survey.first_rejections] == [(1, 2), (3, 4), (4, 5)]
    reason = "this row looks like plain text, but the dataset is chat messages (role, content)"
    assert survey.reasons[reason] == 2
    rejected = [row for row in reader.rows() if row.verdict is RowVerdict.REJECTED]
    assert [row.reason for row in rejected] == [found.reason for found in survey.first_rejections]


def test_a_forced_format_is_not_argued_with(write: Write) -> None:
    lines = [CHAT, CHAT, {"text": "a"}]
    survey = write("rows.jsonl", "\n".join(map(json.dumps, lines)).encode(), format="text").survey()
    assert (survey.format, survey.forced, survey.ok, survey.rejected) == ("text", True, 1, 2)
    assert survey.reasons == {"there is no column …": 2}


def test_duplicates_are_counted_exact_and_near(write: Write) -> None:
    lines = [{"text": text} for text in ("One.", "One.", "one", "ONE!", "two", "One.")]
    survey = write("rows.jsonl", "\n".join(map(json.dumps, lines)).encode()).survey()
    assert (survey.exact_duplicates, survey.near_duplicates) == (2, 2)


def test_utf16_is_refused_with_what_it_would_read_and_read_when_asked_for(write: Write) -> None:
    data = '{"text": "日本語"}\n{"text": {}}\n'.encode("utf-16")
    error = refused(lambda: write("rows.jsonl", data).survey())
    assert error.kind == "data_refused"
    assert "日本語" in error.message and "utf-16" in error.advice
    rows = list(write("rows.jsonl", data, encoding="utf-16").rows())
    assert texts(rows) == ["日本語", None]
    assert [row.offset for row in rows] == [2, 34]
    unmarked = '{"text": "日本語"}\n'.encode("utf-16-be")
    assert texts(list(write("rows.jsonl", unmarked, encoding="utf-16").rows())) == ["日本語"]


def test_cp1252_is_rejected_row_by_row_with_its_reading_and_read_when_asked_for(write: Write) -> None:
    data = '{"text": "plain"}\n{"text": "café – 5 €"}\n'.encode("cp1252")
    reader = write("rows.jsonl", data)
    rows = list(reader.rows())
    assert texts(rows) == ["plain", None]
    assert "byte 0xE9 at 31" in rows[1].reason and "café" in rows[1].reason
    assert "café – 5 €" in reader.encoding_readings()["cp1252"]
    assert texts(list(write("rows.jsonl", data, encoding="cp1252").rows())) == ["plain", "café – 5 €"]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_compressed_files_read_like_plain_ones_over_several_members_and_not_when_cut(
    write: Write, pack: Callable[[bytes], bytes]
) -> None:
    suffix = ".gz" if pack is gzip.compress else ".zst"
    lines = [f'{{"text": "row {number}"}}\n'.encode() for number in range(1000)]
    data = pack(b"".join(lines[:500])) + pack(b"".join(lines[500:]))
    rows = list(write(f"rows.jsonl{suffix}", data).rows())
    assert texts(rows) == [f"row {number}" for number in range(1000)]
    assert rows[-1].offset == sum(map(len, lines[:-1]))
    error = refused(lambda: list(write(f"rows.jsonl{suffix}", data[:-20]).rows()))
    assert error.kind == "data_refused"
    assert "damaged" in error.message


def test_a_name_is_never_a_pattern(write: Write, tmp_path: Path) -> None:
    write("ab.jsonl", b'{"text": "other"}')
    assert refused(lambda: open_dataset(DataSection(path=str(tmp_path / "a?.jsonl")))).kind == "data_not_found"
    assert refused(lambda: open_dataset(DataSection(path=str(tmp_path / "*.jsonl")))).kind == "data_not_found"
    assert texts(list(write("[v1] a*b.jsonl", b'{"text": "mine"}').rows())) == ["mine"]


def test_what_is_not_there_or_not_readable_is_said_in_words(write: Write, tmp_path: Path) -> None:
    assert refused(lambda: open_dataset(DataSection())).kind == "data_not_found"
    assert refused(lambda: open_dataset(DataSection(path="a\x00b.jsonl"))).kind == "data_not_found"
    hub = refused(lambda: open_dataset(DataSection(path="HuggingFaceH4/no_robots")))
    assert hub.kind == "data_not_found" and "hub" in hub.message
    assert refused(lambda: open_dataset(DataSection(path=os.devnull))).kind == "data_refused"
    assert refused(lambda: write("rows.docx", b"x")).kind == "data_refused"
    assert "is a Parquet file" in refused(lambda: write("rows.jsonl", b"PAR1....")).message
    assert "is not a parquet file" in refused(lambda: write("rows.parquet", b"{}")).message
    assert "damaged" in refused(lambda: list(write("rows.parquet", b"PAR1 nothing PAR1").rows())).message


def test_an_empty_file_has_no_rows(write: Write) -> None:
    for name in ("a.jsonl", "a.json", "a.csv", "a.txt"):
        survey = write(name, b"").survey()
        assert (survey.total, survey.format, survey.container != "") == (0, "", True)
        assert list(write(name, b"\xef\xbb\xbf").rows()) == []


def test_reading_tells_its_progress_and_can_be_cancelled(write: Write) -> None:
    reader = write("rows.jsonl", b'{"text": "a"}\n' * 400_000, format="text")
    told: list[tuple[int, int]] = []
    assert sum(1 for _ in reader.rows(progress=lambda done, total: told.append((done, total)))) == 400_000
    assert told == sorted(told) and len(told) > 3
    assert told[-1] == (reader.total_bytes, reader.total_bytes)
    error = refused(lambda: list(reader.rows(cancelled=lambda: True)))
    assert error.kind == "interrupted"


def test_another_path_is_read_with_the_same_settings(write: Write, tmp_path: Path) -> None:
    write("evaluation.csv", b"a,b\nx,y\n")
    own = str(tmp_path / "evaluation.csv")
    data = DataSection(path="train.csv", mapping={"prompt": "a", "completion": "b"}, evaluation_path=own)
    assert data.evaluation is not None
    rows = list(open_dataset(data.evaluation).rows())
    assert rows[0].verdict is RowVerdict.OK
    assert rows[0].file == "evaluation.csv"
