"""The scripts, run by the shells that are here, answer in parts that are read back as they were."""

import subprocess
import sys
from pathlib import Path

import pytest

from qlora_studio.core.elsewhere import shell


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for a run."""
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


def _asked(script: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["sh", "-c", script], input=given, capture_output=True, check=False)


def test_files_are_answered_from_an_offset_on_whatever_they_hold(place: Path) -> None:
    data = bytes(range(256)) * 3 + b"queue 5 0\nhello\n" + shell.MARK.encode() + b"\n"
    (place / "events.jsonl").write_bytes(b"before" + data)
    answer = _asked(shell.look(str(place), "1", (6, 0), (1 << 20, 10)))
    found = {part.name: part for part in shell.parts(b"Welcome!\nqueue 3 0\n" + answer.stdout)}

    assert found["events"].data == data
    assert found["events"].numbers == (6 + len(data),)
    assert found["log"].data == b""


def test_a_file_is_received_whole_under_any_name(place: Path) -> None:
    name = "sent/1/it's $(touch x) — a file.jsonl"
    [size] = shell.parts(_asked(shell.receive(str(place), name, 100_000), b"x" * 100_000).stdout)

    assert size.numbers == (100_000,)
    assert (place / name).read_bytes() == b"x" * 100_000
    assert [path.name for path in place.iterdir()] == ["sent"]


def test_what_breaks_off_leaves_nothing_of_a_file_and_no_half_of_what_is_appended(place: Path) -> None:
    [size] = shell.parts(_asked(shell.receive(str(place), "sent/1/rows.jsonl", 100), b"x" * 99).stdout)
    assert size.numbers == (99,)
    assert [*(place / "sent/1").iterdir()] == []
    assert _asked(shell.append(str(place), "commands.jsonl", 9), b"pause\nst").returncode == 1
    assert (place / "commands.jsonl").read_bytes() == b""
    assert _asked(shell.append(str(place), "commands.jsonl", 6), b"pause\n").returncode == 0
    assert (place / "commands.jsonl").read_bytes() == b"pause\n"


def test_nothing_is_appended_to_a_file_that_is_longer_than_it_was(place: Path) -> None:
    (place / "events.jsonl").write_bytes(b"12345")

    assert _asked(shell.append(str(place), "events.jsonl", 4, 4), b"more").returncode == shell.CHANGED
    assert _asked(shell.append(str(place), "events.jsonl", 4, 5), b"more").returncode == 0
    assert (place / "events.jsonl").read_bytes() == b"12345more"


def test_a_folder_that_is_not_there_is_told_apart_from_one_that_is_empty(place: Path) -> None:
    assert _asked(shell.look(str(place / "none" / "run"), "1", (0, 0), (9, 9))).returncode == shell.GONE
    removed = _asked(shell.look(str(place / "run"), "1", (0, 0), (9, 9)))
    assert [*shell.parts(removed.stdout)][-1].name == shell.REMOVED
    assert _asked(shell.look(str(place), "1", (0, 0), (9, 9))).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has a disk that is always full")
def test_what_a_full_disk_took_of_what_is_appended_is_cut_off_again(place: Path) -> None:
    """A file may grow to so many blocks, as the last ones of a disk are."""
    (place / "commands.jsonl").write_bytes(b"x" * 500)
    script = f"ulimit -f 1; trap '' XFSZ\n{shell.append(str(place), 'commands.jsonl', 4000)}"

    assert _asked(script, b"y" * 4000).returncode == 1
    assert (place / "commands.jsonl").read_bytes() == b"x" * 500


@pytest.mark.parametrize(
    "answer", [b"", b"hello\n", shell.MARK.encode() + b"\nevents 10 10\nhalf", shell.MARK.encode() + b"\n?\n"]
)
def test_an_answer_that_broke_off_is_none(answer: bytes) -> None:
    with pytest.raises(ValueError, match="answer"):
        list(shell.parts(answer))
