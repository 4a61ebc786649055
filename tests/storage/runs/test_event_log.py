"""Events of a damaged or a stranger's file: what cannot be is passed over, counted and told; the rest is read."""

import json
import os
import sys
from pathlib import Path

import pytest

from qlora_studio.core.errors import NewerVersion, StudioError
from qlora_studio.core.run.events import Evaluated, Event, Finished, StepDone, Warned, WorkerStarted
from qlora_studio.core.run.run_state import RunState, reduce
from qlora_studio.storage.runs.event_log import EventLog
from qlora_studio.storage.runs.run_folder import RunFolder

STARTED = WorkerStarted(job="train", studio="0", pid=1, time=1000.0).to_line().encode()
STEP = StepDone(step=1, total_steps=2, epoch=0.5, loss=1.0, learning_rate=1e-4, time=1001.0)
FINISHED = Finished(time=1002.0).to_line().encode()
posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes and links are another matter there")


def step(**changes: object) -> bytes:
    return json.dumps(json.loads(STEP.to_line()) | changes).encode() + b"\n"


def read(tmp_path: Path, data: bytes) -> tuple[list[Event], str]:
    (tmp_path / "events.jsonl").write_bytes(data)
    log = EventLog(tmp_path / "events.jsonl")
    return list(log.all()), log.damage


@pytest.mark.parametrize(
    "line",
    [
        *(step(time=time) for time in (1e20, 1e308, -1, float("nan"), float("inf"), "1001", True, None, [1])),
        *(step(step=count) for count in (2**63, 2**31, -1, 1.5, "1", True, 10**400)),
        *(step(learning_rate=rate) for rate in (float("nan"), 1e308, "0.1")),
        *(step(eta_seconds=seconds) for seconds in (1e18, -1)),
        *(step(loss=loss) for loss in ("nan", float("nan"), 1e308)),
        step(version=0),
        b'{"type": "step_done", "step": 1\n',
        b"\xff\xfe no text\n",
        b"[1, 2]\n",
        b'{"time": 1.0}\n',
        b'{"type": "step_done", "x": ' + b"[" * 100_000 + b"\n",
        b'{"type": "model_loaded", "target_modules": [' + b'"",' * 200_000 + b'""]}\n',
        b'{"type": "rate_lowered", "step": 1, "scale": 1e9}\n',
        b'{"type": "recovering", "kind": "card_lost", "message": "", "step": 1, "batch_size": 0,'
        b' "gradient_accumulation": 8}\n',
    ],
    ids=lambda line: line[:60].decode("ascii", "replace"),
)
def test_a_line_that_says_what_cannot_be_is_passed_over_and_told_by_its_number(tmp_path: Path, line: bytes) -> None:
    events, damage = read(tmp_path, STARTED + b"\n" + line + FINISHED)
    assert [event.type for event in events] == ["worker_started", "finished"]
    assert damage == "1 line of events.jsonl could not be read, line 3."


def test_a_loss_that_was_no_number_is_a_gap_and_no_damage(tmp_path: Path) -> None:
    evaluated = b'{"type": "evaluated", "time": 1.0, "step": 1, "loss": 700.0, "perplexity": 1e304}\n'
    (first, second), damage = read(tmp_path, step(loss=None) + evaluated)
    assert isinstance(first, StepDone) and first.loss is None
    assert isinstance(second, Evaluated) and second.perplexity is None and not damage


def test_several_damaged_lines_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    _, damage = read(tmp_path, STARTED + step(time=1e20) * 3 + FINISHED)
    assert damage == "3 lines of events.jsonl could not be read, the first at line 2."


def test_a_line_of_a_kind_that_is_not_known_is_no_damage(tmp_path: Path) -> None:
    assert read(tmp_path, STARTED + b'{"version": 1, "time": 1.0, "type": "enlightened"}\n')[1] == ""


@pytest.mark.parametrize("size", [(1 << 24) + 1, 40 << 20])
def test_a_line_without_end_hides_nothing_behind_it(tmp_path: Path, size: int) -> None:
    events, damage = read(tmp_path, STARTED + b'"' + b"x" * size + b"\n" + FINISHED)
    assert [event.type for event in events] == ["worker_started", "finished"] and "line 2" in damage


def test_zeros_of_a_power_cut_a_mark_of_an_editor_and_foreign_line_ends_hide_nothing(tmp_path: Path) -> None:
    lines = b"\xef\xbb\xbf" + STARTED + bytes(512) + STEP.to_line().encode() + bytes(7) + b"\n" + FINISHED
    events, damage = read(tmp_path, lines.replace(b"\n", b"\r\n"))
    assert [event.type for event in events] == ["worker_started", "step_done", "finished"] and not damage


def test_a_flipped_version_in_a_session_is_damage_and_a_later_versions_session_is_refused(tmp_path: Path) -> None:
    events, damage = read(tmp_path, STARTED + step(version=3) + FINISHED)
    assert len(events) == 2 and "line 2" in damage
    with pytest.raises(NewerVersion):
        read(tmp_path, STARTED + STARTED.replace(b'"version":1', b'"version":2'))
    with pytest.raises(NewerVersion):
        read(tmp_path, STARTED + FINISHED + step(version=2))


def test_what_could_not_be_read_is_told_once_as_an_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(STARTED + b"{\n")
    log = EventLog(path)
    list(log.all())
    told = log.new_damage()
    assert isinstance(told, Warned) and told.time == 1000.0 and "line 2" in told.message
    assert log.new_damage() is None


def test_a_runs_state_tells_damage_and_is_not_moved_by_it(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(STARTED + step(time=1e20, step=2) + STEP.to_line().encode())
    state = RunFolder(tmp_path).state()
    assert (state.step, state.last_event) == (1, 1001.0)
    assert [warning.kind for warning in state.warnings] == ["unreadable_lines"]


@pytest.mark.parametrize("new", [b"", STARTED, STEP.to_line().encode() * 9])
def test_a_file_that_is_cut_or_replaced_while_it_is_followed_is_told_so(tmp_path: Path, new: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(STARTED + STEP.to_line().encode())
    log = EventLog(path)
    assert len(log.new()) == 2
    path.write_bytes(new)
    with pytest.raises(StudioError, match="replaced or cut short"):
        log.new()


def test_half_a_line_is_read_when_its_other_half_has_come(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(STARTED[:20])
    log = EventLog(path)
    assert log.new() == []
    with path.open("ab") as file:
        file.write(STARTED[20:])
    assert [event.type for event in log.new()] == ["worker_started"]


@posix
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link out"])
def test_what_is_no_file_of_the_run_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    path = run / "events.jsonl"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case _:
            (tmp_path / "secret").write_bytes(STARTED)
            path.symlink_to(tmp_path / "secret")
    with pytest.raises(StudioError, match=r"events\.jsonl cannot be read"):
        EventLog(path).new()


def test_of_very_many_warnings_the_newest_are_kept() -> None:
    state = RunState()
    for number in range(4100):
        state = reduce(state, Warned(kind="x", message=str(number)))
    assert (len(state.warnings), state.warnings[-1].message) == (4000, "4099")
