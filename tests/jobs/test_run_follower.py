"""The follower tells every event once, in order, and how a worker ended, whatever the worker does."""

import sys
import threading
import time
from collections.abc import Callable
from itertools import chain

import pytest

from qlora_studio.core.run.events import Event, Failed, Finished, PhaseChanged, StepDone, TextGenerated, WorkerStarted
from qlora_studio.jobs import run_follower
from qlora_studio.jobs.run_follower import RunFollower, log_tail
from qlora_studio.jobs.worker_process import WorkerProcess
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder

Play = Callable[[str], WorkerProcess]


def follow(folder: RunFolder, process: WorkerProcess | None = None, *, from_start: bool = True) -> list[Event]:
    return list(chain.from_iterable(RunFollower(folder, process, from_start=from_start).batches()))


def steps_of(events: list[Event]) -> list[int]:
    return [event.step for event in events if isinstance(event, StepDone)]


def test_all_events_come_in_order(play: Play, folder: RunFolder) -> None:
    events = follow(folder, play("start,steps:3000,finish"))

    assert isinstance(events[0], WorkerStarted)
    assert steps_of(events) == list(range(1, 3001))
    assert isinstance(events[-1], Finished)


def test_a_failure_is_passed_on_as_the_worker_told_it(play: Play, folder: RunFolder) -> None:
    assert follow(folder, play("start,fail,exit:24"))[-1].kind == "data_refused"  # type: ignore[union-attr]


def test_garbage_and_later_kinds_are_passed_over(play: Play, folder: RunFolder) -> None:
    events = follow(folder, play("start,garbage,steps:2,garbage,finish"))

    assert [event.type for event in events] == ["worker_started", "step_done", "step_done", "warned", "finished"]
    assert events[-2].message == "400 lines of events.jsonl could not be read, the first at line 3."  # type: ignore[union-attr]


def test_garbage_larger_than_one_read_is_passed_over_when_the_worker_is_dead(
    play: Play, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_follower, "_CHUNK", 500)
    process = play("start,garbage,steps:2,garbage,finish")
    process.wait(30)

    assert follow(folder, process)[-1].type == "finished"


def test_an_event_longer_than_one_read_arrives_whole(play: Play, folder: RunFolder) -> None:
    events = follow(folder, play("start,long:3000000,finish"))

    assert isinstance(events[1], TextGenerated)
    assert len(events[1].text) == 3_000_000


def test_a_half_line_of_a_killed_worker_is_no_event(play: Play, folder: RunFolder) -> None:
    events = follow(folder, play("start,half,signal:SIGKILL" if sys.platform != "win32" else "start,half,exit:1"))

    assert [event.type for event in events] == ["worker_started", "failed"]


def test_a_session_after_a_half_line_is_read(play: Play, folder: RunFolder) -> None:
    play("start,half,exit:1").wait(30)

    events = follow(folder, play("start,steps:2,finish"))

    assert steps_of(events) == [1, 2]
    assert events[-1].type == "finished"


def test_an_earlier_end_is_not_taken_for_the_end_of_this_session(play: Play, folder: RunFolder) -> None:
    play("start,steps:3,pause").wait(30)

    events = follow(folder, play("start,steps:4,finish"))

    assert [event.type for event in events if not isinstance(event, StepDone)] == [
        "worker_started",
        "paused",
        "worker_started",
        "finished",
    ]


def test_an_earlier_crash_is_not_taken_for_the_end_of_this_session(play: Play, folder: RunFolder) -> None:
    play("start,steps:3,exit:1").wait(30)

    assert steps_of(follow(folder, play("start,steps:4,finish"))) == [1, 2, 3, 1, 2, 3, 4]


def test_only_the_new_session_is_told_where_that_is_asked(play: Play, folder: RunFolder) -> None:
    play("start,steps:3,pause").wait(30)

    events = follow(folder, play("start,steps:1,finish"), from_start=False)

    assert [event.type for event in events] == ["worker_started", "step_done", "finished"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGINT"])
def test_a_death_by_signal_is_told_by_its_name(play: Play, folder: RunFolder, name: str) -> None:
    failed = follow(folder, play(f"start,say:last words,steps:2,signal:{name}"))[-1]

    assert isinstance(failed, Failed)
    assert failed.kind == "worker_died"
    assert (name in failed.message) or (name == "SIGINT" and "exit code" in failed.message)
    assert "last words" in failed.detail


@pytest.mark.parametrize(
    ("code", "kind"), [(0, "worker_died"), (1, "worker_died"), (26, "run_busy"), (7, "worker_died")]
)
def test_an_exit_without_a_word_is_a_failure(play: Play, folder: RunFolder, code: int, kind: str) -> None:
    failed = follow(folder, play(f"start,steps:1,exit:{code}"))[-1]

    assert isinstance(failed, Failed)
    assert failed.kind == kind


@pytest.mark.parametrize(("script", "advised"), [("steps:2", True), ("steps:2,adapter", False)])
def test_a_run_that_has_its_adapter_is_not_advised_to_be_resumed(
    play: Play, folder: RunFolder, script: str, advised: bool
) -> None:
    failed = follow(folder, play(f"start,{script},exit:7"))[-1]

    assert isinstance(failed, Failed)
    assert ("resumed" in failed.advice) is advised


def test_a_worker_that_never_speaks_is_a_failure(play: Play, folder: RunFolder) -> None:
    assert [event.type for event in follow(folder, play("exit:3"))] == ["failed"]


def test_a_death_is_noticed_without_the_process(play: Play, folder: RunFolder) -> None:
    process = play("start,steps:2,phase:training,wait")
    seen: list[Event] = []
    for batch in RunFollower(folder).batches():
        seen += batch
        if isinstance(batch[-1], PhaseChanged):
            process.kill()

    assert steps_of(seen) == [1, 2]
    assert isinstance(seen[-1], Failed)
    assert seen[-1].kind == "worker_died"


def test_a_worker_whose_place_a_fresh_process_takes_is_followed_there(play: Play, folder: RunFolder) -> None:
    process = play("start,recover")
    batches = RunFollower(folder).batches()
    seen = list(next(batches))
    while seen[-1].type != "recovering":
        seen += next(batches)
    process.wait(30)
    play("start,steps:2,finish")
    seen += chain.from_iterable(batches)

    assert [event.type for event in seen if not isinstance(event, StepDone)] == [
        "worker_started",
        "recovering",
        "worker_started",
        "finished",
    ]


def test_a_fresh_process_that_never_comes_is_given_up(
    play: Play, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_follower, "_STARTUP_SECONDS", 0.2)

    assert [event.type for event in follow(folder, play("start,recover"))][-2:] == ["recovering", "failed"]


def test_an_old_run_is_replayed_to_its_end(play: Play, folder: RunFolder) -> None:
    play("start,steps:5,finish").wait(30)

    assert [event.type for event in follow(folder)] == ["worker_started", *["step_done"] * 5, "finished"]


def test_two_viewers_see_the_same(play: Play, folder: RunFolder) -> None:
    process = play("start,steps:500,wait_for_stop,finish")
    seen: dict[int, list[Event]] = {}
    viewers = [
        threading.Thread(target=lambda number=number: seen.update({number: follow(folder)})) for number in range(2)
    ]
    for viewer in viewers:
        viewer.start()
    process.ask_stop()
    for viewer in viewers:
        viewer.join(30)

    assert seen[0] == seen[1] == list(folder.events())


def test_a_viewer_that_leaves_costs_the_worker_nothing(play: Play, folder: RunFolder) -> None:
    process = play("start,phase:training,wait_for_stop,finish")
    stop = threading.Event()
    for _ in RunFollower(folder, process).batches(stop):
        stop.set()

    assert process.poll() is None
    process.ask_stop()
    assert process.wait(30) == 0


def test_what_is_appended_shows_up_while_following(folder: RunFolder) -> None:
    """A silent worker first, then one that speaks: nothing is lost in between."""
    with folder.lock().acquire(blocking=False), MessageLogWriter(folder.events_path) as log:
        batches = RunFollower(folder).batches()
        log.append(WorkerStarted(job="train", studio="test", pid=1))
        assert [event.type for event in next(batches)] == ["worker_started"]
        log.append(PhaseChanged(phase="training"))
        assert [event.type for event in next(batches)] == ["phase_changed"]
        log.append(Finished())
        assert [event.type for event in next(batches)] == ["finished"]
    assert list(batches) == []


def test_a_run_that_nobody_starts_is_given_up(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_follower, "_STARTUP_SECONDS", 0.2)
    started = time.monotonic()

    events = follow(folder)

    assert [event.type for event in events] == ["failed"]
    assert time.monotonic() - started >= 0.2


def test_the_tail_of_a_log_begins_with_a_whole_line(folder: RunFolder) -> None:
    folder.log_path.write_text("".join(f"line {number}\n" for number in range(1000)))

    assert log_tail(folder, 100).splitlines()[0].startswith("line ")
    assert log_tail(folder, 100).endswith("line 999\n")
