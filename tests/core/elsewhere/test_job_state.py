"""SLURM's answers, as slurm-wlm 22.05 of Debian 12 gave them in the journey, are read as what they are."""

import pytest

from qlora_studio.core.elsewhere.job_state import JobState, Standing, ending_words, job_state, reason_words

_UNKNOWN = "slurm_load_jobs error: Invalid job id specified\n"
_ENDED = """\
JobId=1 JobName=wrap
   UserId=root(0) GroupId=root(0) MCS_label=N/A
   JobState=NODE_FAIL Reason=NodeDown Dependency=(null)
   Requeue=0 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:1
   RunTime=00:00:15 TimeLimit=01:00:00 TimeMin=N/A
   NodeList=n1
"""


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("PENDING|Resources||1:00:00\n", JobState(Standing.WAITING, "PENDING", "Resources", "", "1:00:00")),
        ("PENDING|None||UNLIMITED\n", JobState(Standing.WAITING, "PENDING", "", "", "UNLIMITED")),
        ("RUNNING|None|n1|1:00:00\n", JobState(Standing.RUNNING, "RUNNING", "", "n1", "1:00:00")),
        ("COMPLETING|None|n1|1:00:00\n", JobState(Standing.RUNNING, "COMPLETING", "", "n1", "1:00:00")),
        ("COMPLETED|None|n1|UNLIMITED\n", JobState(Standing.OVER, "COMPLETED", "", "n1", "UNLIMITED")),
        ("NODE_FAIL|NodeDown|n2|3:00\n", JobState(Standing.OVER, "NODE_FAIL", "NodeDown", "n2", "3:00")),
    ],
)
def test_the_queue_says_how_a_job_stands(answer: str, expected: JobState) -> None:
    assert job_state(answer, 0) == expected


def test_a_job_that_the_queue_does_not_know_any_more_is_found_in_the_accounts() -> None:
    state = job_state(_UNKNOWN, 1, "CANCELLED by 1000|None|node7|12:00:00|0:0\n")

    assert state == JobState(Standing.OVER, "CANCELLED", "", "node7", "12:00:00")


def test_without_accounts_it_is_asked_for_by_itself() -> None:
    assert job_state(_UNKNOWN, 1, "", _ENDED) == JobState(Standing.OVER, "NODE_FAIL", "NodeDown", "n1", "01:00:00")


def test_a_job_that_nobody_knows_is_gone_and_over() -> None:
    state = job_state(_UNKNOWN, 1)

    assert state == JobState(Standing.GONE)
    assert state.is_over


@pytest.mark.parametrize(
    "answer",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n",
        "squeue: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\nsqueue: fatal: no config\n",
        "bash: line 7: squeue: command not found\n",
        "slurm_load_jobs error: Zero Bytes were transmitted or received\n",
    ],
)
def test_a_scheduler_that_does_not_answer_says_nothing_of_the_job(answer: str) -> None:
    assert job_state(answer, 1) is None


@pytest.mark.parametrize(
    "word", ["NODE_FAIL", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED", "PREEMPTED", "COMPLETED", "ODD"]
)
def test_every_ending_is_a_sentence(word: str) -> None:
    words = ending_words(JobState(Standing.OVER, word, "", "node7", "12:00:00"))

    assert words.endswith(".")
    assert word != "NODE_FAIL" or "node7" in words
    assert word != "TIMEOUT" or "12:00:00" in words


def test_a_reason_of_the_schedulers_is_put_into_words_and_a_rare_one_shown_as_it_is() -> None:
    assert reason_words("Priority") == "others come first"
    assert reason_words("ReqNodeNotAvail, UnavailableNodes:n1") == "the nodes that it needs are not available"
    assert reason_words("Nodes required for job are DOWN, DRAINED or reserved").startswith(
        "nodes that it needs are down"
    )
    assert reason_words("SomethingNew") == "SomethingNew"
