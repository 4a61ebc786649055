"""What SLURM answers about a job, read into a few standings, and each of them in words.

Asked is `squeue`, and where that knows the job no more `sacct` and `scontrol`: clusters keep ended jobs for minutes in
the first, and often have no second. An answer that is none, since the scheduler itself was not reached, says nothing
about the job.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from qlora_studio.core.words import say

QUEUE_FORMAT = "%T|%r|%N|%l"
ACCOUNT_FIELDS = "State,Reason,NodeList,Timelimit,ExitCode"
_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_RUNNING = {"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "RESIZING", "SUSPENDED", "STOPPED"}
_NOT_KNOWN = re.compile(r"invalid job id", re.IGNORECASE)
_NONE = {"", "None", "(null)", "None assigned", "N/A", "Unknown"}


class Standing(StrEnum):
    """How a job stands with its scheduler. `GONE` is one that the scheduler knows nothing of any more."""

    WAITING = "waiting"
    RUNNING = "running"
    OVER = "over"
    GONE = "gone"


@dataclass(frozen=True)
class JobState:
    """A job by its scheduler's last answer: `word` is SLURM's own, such as NODE_FAIL."""

    standing: Standing
    word: str = ""
    reason: str = ""
    node: str = ""
    limit: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing of the job computes any more, or ever will."""
        return self.standing in (Standing.OVER, Standing.GONE)


def job_state(queue: str, queue_code: int, account: str = "", control: str = "") -> JobState | None:
    """Return a job's state by what squeue, sacct and scontrol printed; None where the scheduler did not answer."""
    if queue_code == 0 and (line := _last_line(queue)):
        word, reason, node, limit = (*map(str.strip, line.split("|")), "", "", "")[:4]
        return _state(word, reason, node, limit)
    if queue_code != 0 and not _NOT_KNOWN.search(queue):
        return None
    if line := _last_line(account):
        word, reason, node, limit = (*map(str.strip, line.split("|")), "", "", "")[:4]
        return _state(word, reason, node, limit)
    facts = dict(re.findall(r"(\w+)=(\S*)", control))
    if "JobState" in facts:
        return _state(facts["JobState"], facts.get("Reason", ""), facts.get("NodeList", ""), facts.get("TimeLimit", ""))
    return JobState(Standing.GONE)


def ending_words(state: JobState) -> str:
    """Return in a sentence why a job ended that told no ending itself."""
    known = {
        "NODE_FAIL": say("The node {node} failed while the run was at work there.", node=state.node or "?"),
        "TIMEOUT": say("The job reached its time limit of {limit} before it could pause.", limit=state.limit or "?"),
        "DEADLINE": say("The job reached its deadline."),
        "OUT_OF_MEMORY": say(
            "The job was killed for want of memory on the node: ask for more in the place's settings."
        ),
        "CANCELLED": say("The job was cancelled."),
        "PREEMPTED": say("The job had to make room for another one."),
        "BOOT_FAIL": say("The node {node} did not start.", node=state.node or "?"),
        "FAILED": say("The job ended by itself and did not say how; its output there says more."),
        "COMPLETED": say("The job ended, and the run did not say how; its output there says more."),
    }
    if state.standing is Standing.GONE:
        return say("The scheduler knows nothing of the job any more, and the run did not say how it ended.")
    return known.get(state.word, say("The job ended: {word}.", word=state.word))


def reason_words(reason: str) -> str:
    """Return why a job waits, in words; SLURM's own word where it is a rare one."""
    known = {
        "Priority": say("others come first"),
        "Resources": say("its cards or nodes are not free yet"),
        "Dependency": say("it waits for another job"),
        "BeginTime": say("it may begin a little later"),
        "JobHeldUser": say("it is held by you"),
        "JobHeldAdmin": say("it is held by the cluster's people"),
        "Licenses": say("no licence is free"),
        "PartitionDown": say("the partition is down"),
        "PartitionTimeLimit": say("it asks for more time than the partition gives"),
        "PartitionNodeLimit": say("it asks for more nodes than the partition gives"),
        "QOSMaxJobsPerUserLimit": say("you have as many jobs as you may"),
        "AssocGrpGRES": say("your group uses as many cards as it may"),
        "Nodes required for job are DOWN": say("nodes that it needs are down, or kept for others"),
        "ReqNodeNotAvail": say("the nodes that it needs are not available"),
    }
    return known.get(reason.partition(",")[0].strip("() "), reason)


def _state(word: str, reason: str, node: str, limit: str) -> JobState:
    word = word.partition(" ")[0].rstrip("+").upper()  # "CANCELLED by 1000"
    standing = Standing.WAITING if word in _WAITING else Standing.RUNNING if word in _RUNNING else Standing.OVER
    return JobState(standing, word, *("" if text in _NONE else text for text in (reason, node, limit)))


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.count("|") >= 3]
    return lines[-1] if lines else ""
