"""Output to anywhere, in any encoding, on any terminal; and what others wrote is shown there, never obeyed."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qlora_studio.cli.console import Console
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import ExitCode, FailureKind
from qlora_studio.core.run.events import (
    CheckpointSaved,
    Event,
    Exported,
    Failed,
    Paused,
    PhaseChanged,
    Progressed,
    Recovering,
    StepDone,
    Warned,
    WorkerStarted,
)
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from tests.cli.conftest import Outcome
from tests.cli.terminal import Terminal

WORDS = "naïve → ☃"
# Colours, the clipboard (OSC 52), a link (OSC 8), C1's CSI, a reversed direction, a separator of lines, a new line.
EVIL = "a\x1b[31m\x1b]52;c;aGk=\x07\x1b]8;;http://x\x1b\\b\x9b2J\u202ec\u2028d\r\nforged\x7f"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2066-\u2069]")


def told(place: Path, *events: Event, name: str = "x") -> RunFolder:
    """A run of which `events` tell."""
    folder = create_run_folder(place, RunConfig(name=name))
    with MessageLogWriter(folder.events_path) as log:
        for event in events:
            log.append(event)
    return folder


@pytest.fixture
def run(studio_home: Path) -> RunFolder:
    events = (
        WorkerStarted(job="train", studio="x", pid=1),
        Warned(kind="x", message=WORDS),
        Paused(step=1, checkpoint="checkpoint-1"),
    )
    return told(studio_home / "runs", *events)


def shell(command: str, home: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of the shell, in which `studio` is the command line."""
    started = f"{sys.executable} -m qlora_studio"
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; studio() {{ {started} "$@"; }}; {command}'],
        env={**os.environ, "QLORA_STUDIO_HOME": str(home), **environment},
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"PYTHONIOENCODING": "ascii"}, rb"Note: na\xefve \u2192 \u2603"),
        ({"PYTHONIOENCODING": "cp1252"}, b"Note: na\xefve " + rb"\u2192 \u2603"),
        ({"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, rb"na\xefve \u2192 \u2603"),
    ],
)
def test_what_an_encoding_has_no_character_for_is_escaped(
    run: RunFolder, studio_home: Path, environment: dict[str, str], shown: bytes
) -> None:
    found = shell(f"studio watch {run.path}", studio_home, **environment)
    assert (found.returncode, b"Traceback" in found.stderr) == (0, False), found.stderr
    assert shown in found.stderr


def test_json_is_ascii_where_the_stream_is_not_utf_8(studio_home: Path) -> None:
    failed = Failed(kind=FailureKind.ERROR, message=WORDS)
    run = told(studio_home / "runs", WorkerStarted(job="train", studio="x", pid=1), failed)
    found = shell(f"studio watch {run.path} --json", studio_home, PYTHONIOENCODING="cp1252")
    assert found.returncode == 0 and found.stdout.isascii()
    assert json.loads(found.stdout)["error"]["message"] == WORDS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["runs --json", "--help"])
def test_a_result_that_cannot_be_written_is_told(studio_home: Path, command: str) -> None:
    found = shell(f"studio {command} >/dev/full", studio_home)
    assert found.returncode == ExitCode.DISK_FULL
    told = b"The result cannot be written to where it was sent: No space left on device."
    assert found.stderr.splitlines()[0] == told


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("studio watch {run} <&- >&- 2>&-", 0),
        ("studio chat {run} <&-", ExitCode.USAGE),
        ("studio watch {run} 2>/dev/full", 0),
        ("studio --help | true", 0),
        ("studio watch {run} 2>&1 >/dev/null | true", 0),
    ],
)
def test_streams_that_are_closed_or_that_nobody_reads_stop_nothing(
    run: RunFolder, studio_home: Path, command: str, code: int
) -> None:
    found = shell(command.format(run=run.path), studio_home)
    assert found.returncode == code, found
    assert b"Traceback" not in found.stderr and b"Exception" not in found.stderr, found.stderr


def test_what_others_wrote_is_shown_and_not_obeyed(studio_home: Path, studio: Callable[..., Outcome]) -> None:
    started = WorkerStarted(job="train", studio="x", pid=1)
    run = told(
        studio_home / "runs",
        started,
        PhaseChanged(phase=EVIL),
        Progressed(what=EVIL, done=1, total=2, unit=EVIL),
        Warned(kind="x", message=EVIL),
        Recovering(kind=FailureKind.ERROR, message=EVIL, step=1, batch_size=1, gradient_accumulation=1),
        started,
        StepDone(step=1, total_steps=2, epoch=0, loss=1, learning_rate=0),
        CheckpointSaved(step=1, name=EVIL, size_bytes=1, seconds=0.1),
        Exported(format=EVIL, path=EVIL, size_bytes=1),
        Failed(kind=FailureKind.ERROR, message=EVIL, advice=EVIL, detail=EVIL),
    )
    evil = run.path.rename(run.path.with_name(f"{run.path.name}{EVIL.replace('/', '')}"))
    found = shell('studio --details watch "$EVIL"; studio runs; studio runs --json', studio_home, EVIL=str(evil))
    shown = [found.stdout.decode(), found.stderr.decode()]
    assert [text.count("forged") for text in shown] == [5, 5]
    for command in ("verify", "pause", "watch --json"):
        outcome = studio(*command.split(), str(evil))
        shown += [outcome.out, outcome.err]
    for text in shown:
        assert not OBEYED.search(text), text
        assert not any(line.startswith("forged") for line in text.splitlines()), text


def test_a_wrong_command_line_is_shown_and_not_obeyed(studio: Callable[..., Outcome]) -> None:
    assert not OBEYED.search(studio(EVIL).err)
    assert not OBEYED.search(studio("train", "--set", EVIL).err)


def test_an_answer_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    Console().stream(f"{EVIL}\tand\nmore")
    text = capsys.readouterr().out
    assert not OBEYED.search(text)
    assert text.endswith("forged\\x7f\tand\nmore")


def test_json_holds_no_character_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    Console(json=True).report({"text": EVIL + "\udc80"})
    text = capsys.readouterr().out
    assert not OBEYED.search(text)
    assert json.loads(text) == {"text": EVIL + "\udc80"}


@pytest.fixture
def counting(studio_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    """A run whose worker takes a step every now and then."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("COUNTING_SECONDS", "0.1")
    folder = create_run_folder(studio_home / "runs", RunConfig(name="counting"))
    process = start_worker(folder, [sys.executable, "-m", "tests.jobs.counting_worker"])
    yield folder
    process.kill()
    process.wait(10)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo terminals of this kind")
def test_a_line_that_moves_keeps_within_a_terminal_that_changes(counting: RunFolder, studio_home: Path) -> None:
    with Terminal("watch", str(counting.path), home=studio_home) as terminal:
        terminal.wait_for("Training .*/150")
        for columns, most in ((20, 19), (0, 79), (1, 1)):
            terminal.resize(columns)
            before = len(terminal.wait_for("Training"))
            terminal.wait_for(rf"(?s).{{{before}}}" + r".*\r\x1b\[K" * 8)
            drawn = terminal.shown[before:].split("\r\x1b[K")[2:-1]  # the last may be on its way
            moving = [line for line in drawn if not line.endswith("\n")]  # a message that stays may be longer
            assert moving and all(0 < len(line) <= most for line in moving), (columns, drawn)
        terminal.press_ctrl_c()
        assert terminal.ending()[0] == ExitCode.INTERRUPTED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo terminals of this kind")
def test_a_dumb_terminal_gets_lines_alone(counting: RunFolder, studio_home: Path) -> None:
    with Terminal("watch", str(counting.path), home=studio_home, TERM="dumb") as terminal:
        terminal.wait_for("checkpoint-20 is safe")
        terminal.press_ctrl_c()
        code, shown = terminal.ending()
    assert (code, "\x1b" in shown) == (ExitCode.INTERRUPTED, False)
