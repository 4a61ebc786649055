"""How a run elsewhere stands, in words: for the window's header and lists, and for the command line."""

import time

from qlora_studio.core.elsewhere.job_state import reason_words
from qlora_studio.core.run.events import ElsewhereTold
from qlora_studio.core.words import say


def elsewhere_words(told: ElsewhereTold) -> str:
    """Return a line: "on cluster: waiting in the queue (others come first)", "on cluster: running on node7"."""
    place = told.place
    if told.unreached_since and told.standing != "over":
        since = _moment(told.unreached_since)
        return say("on {place}: not reached since {time}; the job goes on there", place=place, time=since)
    match told.standing:
        case "waiting" if told.reason and told.reason != "None":
            return say("on {place}: waiting in the queue ({reason})", place=place, reason=reason_words(told.reason))
        case "waiting":
            return say("on {place}: waiting in the queue", place=place)
        case "running" if told.node:
            return say("on {place}: running on {node}", place=place, node=told.node)
        case "running":
            return say("on {place}: running", place=place)
        case "over":
            return say("on {place}: the job is over", place=place)
    return say("on {place}: submitted", place=place)


def _moment(when: float) -> str:
    """Return the time of day; with the date where that is another one."""
    moment = time.localtime(when)
    return time.strftime("%H:%M" if moment[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M", moment)


def detail_words(told: ElsewhereTold) -> str:
    """Return what else is to be said: why the place is not reached, what keeps the adapter from coming; or nothing."""
    return told.problem
