"""What is said of a run elsewhere and of a place, by what is known of them."""

from dataclasses import replace

import pytest

from qlora_studio.core.memory.fit import FitVerdict
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import ElsewhereTold
from qlora_studio.core.run.run_state import RunState
from qlora_studio.jobs.elsewhere.place_check import Partition, PlaceReport
from qlora_studio.ui.elsewhere.view import (
    fit_words,
    leaving_facts,
    name_of_host,
    place_checks,
    run_elsewhere,
    sending_text,
)
from qlora_studio.ui.state.status import run_status

WAITING = ElsewhereTold(place="cluster", job="41", standing="waiting", reason="Priority")
RUNNING = ElsewhereTold(place="cluster", job="41", standing="running", node="node7")
AWAY = RUNNING.model_copy(update={"unreached_since": 1.0, "problem": "cluster was not reached."})
TRAINING = RunState(phase=Phase.TRAINING, last_event=1.0, elsewhere=RUNNING)


def test_a_run_that_waits_says_why_and_that_nothing_need_be_done() -> None:
    state = RunState(phase=Phase.STARTING, elsewhere=WAITING)
    seen = run_elsewhere(state, place="cluster", is_open=True, is_here=False)
    assert seen.words == "On cluster: waiting in the queue (others come first)"
    assert "by itself" in seen.waits and not seen.warning
    assert seen.open and not seen.fetchable


def test_a_run_that_trains_says_on_which_node_and_leaves_the_rest_to_its_curves() -> None:
    seen = run_elsewhere(TRAINING, place="cluster", is_open=True, is_here=False)
    assert (seen.words, seen.waits, seen.warning) == ("On cluster: running on node7", "", "")


def test_of_a_place_that_is_not_reached_nothing_is_concluded() -> None:
    seen = run_elsewhere(replace(TRAINING, elsewhere=AWAY), place="cluster", is_open=True, is_here=False)
    assert "not reached since" in seen.words and "goes on there" in seen.words
    assert seen.warning == "cluster was not reached." and "the job goes on there" in seen.advice
    assert seen.open


@pytest.mark.parametrize(("phase", "adapter", "is_here", "fetchable"), [
    (Phase.FINISHED, "adapter", False, True),
    (Phase.FINISHED, "adapter", True, False),
    (Phase.STOPPED, "adapter", False, True),
    (Phase.STOPPED, "", False, False),
    (Phase.PAUSED, "", False, False),
    (Phase.FAILED, "", False, False),
])  # fmt: skip
def test_an_adapter_is_brought_here_where_one_is_there_and_none_here(
    phase: Phase, adapter: str, is_here: bool, fetchable: bool
) -> None:
    state = replace(TRAINING, phase=phase, adapter_path=adapter)
    seen = run_elsewhere(state, place="cluster", is_open=True, is_here=is_here)
    assert seen.fetchable == fetchable
    assert (seen.words, seen.open) == ("On cluster", False), "its ending is told before its job is over"


def test_the_bottom_line_says_of_a_run_that_waits_elsewhere_where_it_waits() -> None:
    from qlora_studio.core.config.run_config import RunConfig

    status = run_status(RunState(phase=Phase.STARTING, elsewhere=WAITING), RunConfig(), 2.0)
    assert status.what == "On cluster: waiting in the queue (others come first)" and status.busy
    assert run_status(TRAINING, RunConfig(), 2.0).what == "Training"


def test_a_place_without_a_name_is_called_as_its_host() -> None:
    assert name_of_host("me@login.cluster.example") == "login.cluster.example"
    assert name_of_host("login:2222") == "login-2222"
    assert name_of_host("") == ""


def test_a_place_is_told_with_what_is_wrong_first_and_cards_that_no_partition_has() -> None:
    cpu = Partition("cpu", "1:00:00", 1, "", True)
    gpu = Partition("gpu", "1-00:00:00", 4, "gpu:a100:4", False)
    well = PlaceReport("/home/me/runs", "0.1.0", (cpu, gpu), ())
    checks = place_checks(well, cards=1)
    assert [check.level for check in checks] == ["ok", "ok", "ok"]
    assert checks[2].message == "cpu (1 node, 1:00:00); gpu (4 nodes, a100:4, 1-00:00:00, down)"
    ill = PlaceReport("/home/me/runs", "", (cpu,), ("QLoRA Studio does not start there: not found",))
    checks = place_checks(ill, cards=1)
    assert checks[0].level == "error" and "does not start" in checks[0].message
    assert checks[-1].level == "warning" and "No partition has any" in checks[-1].message
    assert len(place_checks(ill, cards=0)) == len(checks) - 1


def test_the_largest_files_that_leave_are_named_and_the_rest_is_counted() -> None:
    facts = leaving_facts([(f"part-{number}", number << 20) for number in range(1, 10)])
    assert facts[0] == ("part-9", "9.0 MiB")
    assert facts[-1] == ("and 3 files more", "6.0 MiB")
    assert leaving_facts([("one", 1)]) == [("one", "1 B")]


def test_the_fit_is_said_for_the_card_that_is_assumed_and_for_none_without_one() -> None:
    assert fit_words(FitVerdict.FITS, "A100 80 GB") == (
        "It fits on A100 80 GB, for which the estimate is judged.",
        "ok",
    )
    assert fit_words(FitVerdict.NO, "A100 80 GB")[1] == "bad"
    words, tone = fit_words(FitVerdict.FITS, "")
    assert "is not known" in words and not tone, "what fits this computer's card says nothing of that one"


def test_how_far_the_files_are_is_said_in_bytes_and_then_what_comes() -> None:
    assert sending_text(1 << 20, 4 << 20) == "Sending: 1.0 MiB of 4.0 MiB"
    assert "scheduler" in sending_text(4 << 20, 4 << 20) == sending_text(0, 0)
