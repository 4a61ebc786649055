"""A command whose other end hangs is ended: once nothing moves, or once that is asked; one that is only slow is not."""

import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import psutil
import pytest

from qlora_studio.jobs.elsewhere import far_command
from qlora_studio.jobs.elsewhere.far_command import NotStarted, Stalled, Stopped, run


@pytest.fixture
def sleeper(tmp_path: Path) -> Path:
    """Where a script writes the number of what it started."""
    path = tmp_path / "number"
    path.touch()
    return path


def test_what_is_given_arrives_whole_and_what_is_answered_comes_whole() -> None:
    found = run(["sh", "-c", "cat; echo words >&2; exit 7"], [b"x" * 300_000] * 3, idle_seconds=20)
    assert (found.code, found.answer, found.words) == (7, b"x" * 900_000, "words\n")


def test_an_answer_can_go_to_a_file() -> None:
    out = BytesIO()
    assert run(["sh", "-c", "echo to a file"], idle_seconds=20, out=out).answer == b""
    assert out.getvalue() == b"to a file\n"


@pytest.mark.parametrize("given", [(), (b"x" * 300_000,)], ids=["silent", "takes nothing"])
def test_one_that_hangs_is_ended_with_all_that_it_started(given: tuple[bytes, ...], sleeper: Path) -> None:
    with pytest.raises(Stalled):
        run(["sh", "-c", f"sleep 60 & echo $! > {sleeper}; wait"], given, idle_seconds=1)
    _is_gone(sleeper)


def test_one_that_is_slow_is_waited_for() -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 0.3; echo $i; done"
    assert run(["sh", "-c", script], idle_seconds=1.5).answer == b"1\n2\n3\n4\n5\n6\n7\n8\n"


def test_an_answer_is_not_waited_for_though_something_that_stays_keeps_its_pipe_open(sleeper: Path) -> None:
    found = run(["sh", "-c", f"echo done; sleep 60 & echo $! > {sleeper}"], idle_seconds=60)
    assert found.answer == b"done\n"
    psutil.Process(int(sleeper.read_text())).kill()


def test_what_is_answered_after_a_long_silence_comes_whole_however_slowly_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(BytesIO):
        def write(self, piece: object) -> int:
            time.sleep(1.5)
            return super().write(piece)  # type: ignore[arg-type]

    monkeypatch.setattr(far_command, "_LEFT_OPEN_SECONDS", 0.3)
    out = Slow()
    assert run(["sh", "-c", "sleep 1; echo hi"], idle_seconds=20, out=out).code == 0
    assert out.getvalue() == b"hi\n"


def test_one_is_ended_at_once_when_that_is_asked_and_not_begun_where_it_was_before(sleeper: Path) -> None:
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    with pytest.raises(Stopped):
        run(["sh", "-c", f"sleep 60 & echo $! > {sleeper}; wait"], [b"x" * 300_000], idle_seconds=60, stop=stop)
    _is_gone(sleeper)
    with pytest.raises(Stopped):
        run(["no-such-program"], idle_seconds=60, stop=stop)


def test_what_keeps_one_from_starting_and_its_input_from_being_read_is_raised(sleeper: Path) -> None:
    with pytest.raises(NotStarted, match="No such file"):
        run(["no-such-program"], idle_seconds=1)
    script = f"sleep 60 & echo $! > {sleeper}; wait"
    with pytest.raises(FileNotFoundError):
        run(["sh", "-c", script], (path.read_bytes() for path in (Path("/no/such"),)), idle_seconds=60)
    _is_gone(sleeper)


def test_whatever_reading_the_input_raises_is_raised_at_once() -> None:
    def given() -> Iterator[bytes]:
        yield b"x"
        raise RuntimeError("out of step")

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="out of step"):
        run(["sh", "-c", "cat; sleep 60"], given(), idle_seconds=6)
    assert time.monotonic() - began < 5


def _is_gone(sleeper: Path) -> None:
    """Wait until the process whose number is written there, if it came to that, is gone."""
    deadline = time.monotonic() + 10
    while (number := sleeper.read_text().strip()) and _lives(int(number)):
        assert time.monotonic() < deadline, "what it started is still there"
        time.sleep(0.05)


def _lives(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
