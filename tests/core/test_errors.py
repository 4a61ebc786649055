import errno
import re
from pathlib import Path

import pytest

from qlora_studio.core.errors import ExitCode, FailureKind, StudioError, unforeseen
from qlora_studio.core.run.events import Failed, parse_event

COMMANDS = Path(__file__).parents[2] / "docs" / "COMMANDS.md"


def test_the_table_of_exit_codes_in_the_documentation_is_the_programs() -> None:
    section = COMMANDS.read_text(encoding="utf-8").partition("## Exit codes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", section, re.MULTILINE)
    assert [(int(code), meaning) for code, meaning in rows] == [(int(code), code.meaning) for code in ExitCode]


@pytest.mark.parametrize("kind", FailureKind)
def test_each_kind_of_failure_says_what_it_means_and_fails_the_command(kind: FailureKind) -> None:
    assert kind.meaning.endswith(".")
    assert kind.exit_code not in (ExitCode.OK, ExitCode.DOCTOR_FOUND_PROBLEMS)


def test_an_error_without_a_kind_has_the_general_exit_code() -> None:
    assert StudioError("Something.").kind.exit_code == ExitCode.ERROR


def test_a_kind_stands_in_an_events_line_as_its_word() -> None:
    line = Failed(kind=FailureKind.DISK_FULL, message="Full.").to_line()
    assert '"kind":"disk_full"' in line
    event = parse_event(line.encode())
    assert isinstance(event, Failed) and event.kind is FailureKind.DISK_FULL


def test_the_failure_of_a_later_version_is_still_told() -> None:
    event = parse_event(b'{"type": "failed", "kind": "moon_phase", "message": "The moon was full."}')
    assert isinstance(event, Failed)
    assert (event.kind, event.kind.exit_code, event.message) == (FailureKind.ERROR, 1, "The moon was full.")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "a/b"), FailureKind.NOT_READABLE, "a/b: No such file."),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), FailureKind.ERROR, "a/b: Permission denied."),
        (OSError(errno.ENOSPC, "No space left"), FailureKind.DISK_FULL, "No space left."),
        (ConnectionRefusedError(), FailureKind.ERROR, "ConnectionRefusedError."),
        (KeyError("x"), FailureKind.INTERNAL, "Something went wrong in QLoRA Studio itself: KeyError: 'x'."),
    ],
)
def test_what_nobody_foresaw_has_words_and_its_traceback(error: Exception, kind: FailureKind, words: str) -> None:
    told = unforeseen(error)
    assert (told.kind, told.message) == (kind, words)
    assert type(error).__name__ in told.detail
