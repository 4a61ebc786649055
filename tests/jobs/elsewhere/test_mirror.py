"""A run elsewhere has one history, told byte for byte here, and nothing is concluded that is not known."""

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from qlora_studio.core.elsewhere.told import elsewhere_words
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Pause
from qlora_studio.core.run.events import AdapterSaved, ElsewhereTold, Event
from qlora_studio.jobs.elsewhere.acts import cancel_job, fetch
from qlora_studio.jobs.elsewhere.mirror_process import start_mirror
from qlora_studio.jobs.elsewhere.submission import submit_again
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.places import load_places, remove_place, save_place
from qlora_studio.storage.run_care.removal import require_removable
from qlora_studio.storage.runs.checkpoint_folder import verify
from qlora_studio.storage.runs.elsewhere_record import read_record, read_told
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.elsewhere.places import followed, place_for, there, until
from tests.jobs.elsewhere.conftest import Submit


def _words(run: RunFolder) -> str:
    told = read_told(run.path)
    return elsewhere_words(told) if told else ""


def _is_open(run: RunFolder) -> bool:
    record = read_record(run.path)
    return record is not None and record.open


def test_a_run_is_followed_as_if_its_worker_were_here_and_its_adapter_comes_before_it_is_told(
    send: Submit, tmp_path: Path
) -> None:
    run = send("start,steps:300,adapter,finish")
    process = start_worker(run)
    events: list[Event] = []
    for batch in RunFollower(run, process).batches():
        events += batch
        if any(isinstance(event, AdapterSaved) for event in batch):
            assert verify(run.adapter_path).step == 300
    process.wait(30)

    assert [event.step for event in events if event.type == "step_done"] == [*range(1, 301)]
    assert any(isinstance(event, ElsewhereTold) for event in events)
    assert run.state().phase is Phase.FINISHED
    assert run.events_path.read_bytes() == there(run, tmp_path).events_path.read_bytes()
    assert not run.is_busy()


def test_what_is_asked_here_is_done_there_and_the_run_goes_on_when_it_is_submitted_again(
    send: Submit, tmp_path: Path
) -> None:
    run = send("start,steps:2,wait")
    mirror = followed(run)
    until(lambda: run.state().step == 2)
    run.send(Pause())
    mirror.join(30)
    assert run.state().phase is Phase.PAUSED
    assert not _is_open(run)

    place_for("start,steps:2,finish", tmp_path)
    submit_again(run)
    followed(run).join(30)

    assert (run.state().phase, run.state().step) == (Phase.FINISHED, 4)
    assert run.events_path.read_bytes() == there(run, tmp_path).events_path.read_bytes()


def test_a_run_that_waits_is_taken_out_of_the_queue_when_it_is_paused(send: Submit, scheduler: Path) -> None:
    (scheduler / "hold").touch()
    run = send("start,finish")
    mirror = followed(run)
    until(lambda: "held by you" in _words(run))
    run.send(Pause())
    mirror.join(30)

    assert run.state().phase is Phase.PAUSED
    assert (scheduler / "42").read_text() == "CANCELLED\n"


def test_a_cancelled_job_is_told_as_such_there_and_here(send: Submit, scheduler: Path, tmp_path: Path) -> None:
    (scheduler / "hold").touch()
    run = send("start,finish")
    cancel_job(run)
    followed(run).join(30)

    failure = there(run, tmp_path).state().failure
    assert failure is not None
    assert (failure.kind, failure.message) == (FailureKind.INTERRUPTED, "The job was cancelled.")
    assert run.state().failure == failure
    assert run.state().phase is Phase.CANCELLED, "which is no fault, and is shown as none"


def test_a_job_that_ends_without_a_word_is_told_with_its_output(send: Submit) -> None:
    run = send("start,steps:1,exit:1")
    followed(run).join(30)

    failure = run.state().failure
    assert failure is not None
    assert failure.kind is FailureKind.WORKER_DIED
    assert "the last words of a library" in failure.detail


def test_a_lost_node_is_told_in_words(send: Submit, scheduler: Path, tmp_path: Path) -> None:
    end = tmp_path / "end"
    run = send(f"start,steps:1,wait_for:{end}")
    mirror = followed(run)
    until(lambda: run.state().step == 1)
    (scheduler / "42").write_text("NODE_FAIL\n")
    mirror.join(30)
    end.touch()

    failure = run.state().failure
    assert failure is not None
    assert failure.message == "The node n1 failed while the run was at work there."


def test_while_the_scheduler_does_not_answer_nothing_is_concluded(send: Submit, scheduler: Path) -> None:
    run = send("start,steps:1,wait")
    mirror = followed(run)
    until(lambda: run.state().step == 1)
    (scheduler / "down").touch()
    until(lambda: "not reached since" in _words(run))
    assert not run.state().phase.is_over
    assert run.is_busy()

    (scheduler / "down").unlink()
    run.send(Pause())
    mirror.join(30)
    assert run.state().phase is Phase.PAUSED


def test_a_mirror_that_is_killed_loses_nothing_and_the_next_one_goes_on(send: Submit, tmp_path: Path) -> None:
    end = tmp_path / "end"
    run = send(f"start,steps:500,wait_for:{end},steps:500,finish")
    process = start_worker(run)
    until(lambda: run.state().step > 0)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    end.touch()
    assert run.is_busy()

    followed(run).join(30)
    assert run.state().step == 1000
    assert run.events_path.read_bytes() == there(run, tmp_path).events_path.read_bytes()


def test_an_adapter_that_came_damaged_is_not_taken_and_the_history_goes_on(send: Submit) -> None:
    run = send("start,steps:1,adapter:damaged,finish")
    followed(run).join(30)

    told = read_told(run.path)
    assert told is not None
    assert told.problem.startswith("The adapter could not be fetched")
    assert not run.adapter_path.exists()
    assert run.state().phase is Phase.FINISHED


def test_a_run_that_is_there_is_neither_trained_here_nor_deleted(send: Submit, scheduler: Path) -> None:
    (scheduler / "hold").touch()
    run = send("start,finish")
    with pytest.raises(StudioError, match="job on another computer is not over"):
        require_removable(run)
    with pytest.raises(StudioError, match="has a job on cluster already"):
        submit_again(run)
    (scheduler / "hold").unlink()
    followed(run).join(30)

    require_removable(run)
    with pytest.raises(StudioError, match="is a run of cluster: it goes on there"):
        start_worker(run)


def test_a_run_whose_place_was_forgotten_is_not_trained_here_and_is_followed_once_the_place_is_known_again(
    send: Submit, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    run = send(f"start,steps:1,wait_for:{end},finish")
    process = start_mirror(run)
    assert process is not None
    until(lambda: run.state().step == 1)
    [place] = load_places()
    remove_place("cluster")
    process.kill()
    process.wait(30)

    assert run.is_busy()
    assert start_mirror(run) is None
    assert "not reached since" in _words(run)
    assert "No place is called cluster here" in _problem(run)
    for act in (submit_again, cancel_job, fetch):
        with pytest.raises(StudioError, match=r"No place is called cluster here|has a job on cluster already"):
            act(run)
    require_removable(run)
    save_place(place)
    with pytest.raises(StudioError, match="is not over"):
        require_removable(run)
    end.touch()
    followed(run).join(30)
    assert run.state().phase is Phase.FINISHED
    assert run.events_path.read_bytes() == there(run, tmp_path).events_path.read_bytes()


def test_a_run_whose_folder_there_was_deleted_is_told_as_that_and_closed_once_its_job_is_over(
    send: Submit, scheduler: Path, tmp_path: Path
) -> None:
    run = send("start,steps:2,wait")
    mirror = followed(run)
    until(lambda: run.state().step == 2)
    shutil.rmtree(there(run, tmp_path).path)
    until(lambda: "was deleted" in _problem(run))
    assert not run.state().phase.is_over
    cancel_job(run)
    mirror.join(30)

    failure = run.state().failure
    assert failure is not None
    assert failure.message.startswith("The folder of the run on cluster was deleted")
    assert not _is_open(run)
    assert run.state().step == 2


def test_a_place_whose_folder_is_away_concludes_nothing(send: Submit, tmp_path: Path) -> None:
    run = send("start,steps:2,wait")
    mirror = followed(run)
    until(lambda: run.state().step == 2)
    home = tmp_path / "there"
    home.rename(tmp_path / "away")
    until(lambda: "is not there, or cannot be opened" in _problem(run))
    assert not run.state().phase.is_over
    (tmp_path / "away").rename(home)
    run.send(Pause())
    mirror.join(30)
    assert run.state().phase is Phase.PAUSED


def test_of_two_windows_that_submit_a_run_at_once_one_does(send: Submit, scheduler: Path) -> None:
    run = send("start,steps:2,wait")
    mirror = followed(run)
    until(lambda: run.state().step == 2)
    run.send(Pause())
    mirror.join(30)
    (scheduler / "hold").touch()
    refused: list[StudioError] = []

    def submitting() -> None:
        try:
            submit_again(run)
        except StudioError as error:
            refused.append(error)

    threads = [threading.Thread(target=submitting) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [error.kind for error in refused] == [FailureKind.RUN_BUSY] * 2
    assert (scheduler / "last").read_text() == "43\n"


def test_by_how_much_the_clock_there_is_ahead_is_told_and_the_ending_that_is_put_on_record_is_of_that_clock(
    send: Submit, scheduler: Path, tmp_path: Path
) -> None:
    """A `date` that is two hours behind."""
    date = tmp_path / "programs" / "date"
    date.write_text(f"#!/bin/sh\n{shutil.which('date')} -d '2 hours ago' \"$@\"\n")
    date.chmod(0o755)
    (scheduler / "hold").touch()
    run = send("start,finish")
    run.send(Pause())
    followed(run).join(30)

    told, ended = read_told(run.path), run.state().last_event
    assert told is not None
    assert told.clock_ahead == pytest.approx(-7200, abs=60)
    assert ended == pytest.approx(time.time() - 7200, abs=60)


@pytest.mark.skipif(sys.platform != "linux", reason="a file of another process is kept from growing")
def test_a_full_disk_here_is_told_and_the_history_goes_on_once_there_is_room(send: Submit, tmp_path: Path) -> None:
    import resource

    begin = tmp_path / "begin"
    run = send(f"start,wait_for:{begin},steps:60,finish")
    process = start_mirror(run)
    assert process is not None
    until(lambda: run.events_path.exists() and run.state().started)
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    begin.touch()
    until(lambda: "Cannot write to" in _problem(run))
    assert process.poll() is None
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    process.wait(60)

    assert run.state().phase is Phase.FINISHED
    assert run.events_path.read_bytes() == there(run, tmp_path).events_path.read_bytes()


def _problem(run: RunFolder) -> str:
    told = read_told(run.path)
    return told.problem if told else ""
