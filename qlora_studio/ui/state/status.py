"""What the bottom line says, of the run that is at work, or of the one that is shown."""

from dataclasses import dataclass

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.elsewhere.told import elsewhere_words
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.run_state import RunState, phase_text
from qlora_studio.core.words import say
from qlora_studio.ui.state.asked import Asked, asked_words
from qlora_studio.ui.state.progress import (
    eta_text,
    is_kept_awake,
    phase_tone,
    progress_share,
    progress_text,
    risk_text,
)


@dataclass(frozen=True)
class Status:
    """What the line shows. `share` is 0 to 1, None where it is unknown; `tone` colours the dot."""

    what: str = say("Nothing runs")
    subject: str = ""
    share: float | None = None
    facts: str = ""
    at_risk: str = ""
    tone: str = "muted"
    busy: bool = False


def run_status(
    state: RunState,
    config: RunConfig | None,
    now: float,
    *,
    name: str = "",
    others: int = 0,
    asked: Asked | None = None,
) -> Status:
    """Return the status of a run that its user calls `name`, where they do.

    `others` is how many more runs are at work, `asked` what was asked of this one.
    """
    if config is None or (state.phase == Phase.NEW and not state.last_event and not others):
        return Status()
    more = [say("{others} more at work", others=others)] if others else []
    if state.phase.is_over:
        steps = [say("{step:,} steps", step=state.step)] if state.step else []
        facts = " · ".join(steps + more)
        return Status(phase_text(state), name or config.name, facts=facts, tone=phase_tone(state.phase))
    awake = say("kept awake") if is_kept_awake(state) else ""
    told = [text for text in (progress_text(state), eta_text(state), awake, *more) if text]
    return Status(
        what=asked_words(asked, state) or _standing(state) or phase_text(state),
        subject=name or config.name,
        share=progress_share(state),
        facts=" · ".join(told),
        at_risk=risk_text(state, now),
        tone=phase_tone(state.phase),
        busy=True,
    )


def _standing(state: RunState) -> str:
    """Return how a run stands elsewhere that waits there, or is not reached; nothing of one that is seen at work."""
    told = state.elsewhere
    if told is None or (told.standing == "running" and not told.unreached_since):
        return ""
    words = elsewhere_words(told)
    return f"{words[:1].upper()}{words[1:]}"


def job_status(what: str, subject: str, state: RunState, *, stopping: bool = False) -> Status:
    """Return the status of an export or a download."""
    return Status(
        say("Stopping …") if stopping else what,
        subject,
        share=progress_share(state),
        facts=progress_text(state),
        tone="accent",
        busy=True,
    )


def window_title(status: Status) -> str:
    """Return the window's title: how far the work is comes first, since the task bar shows little more."""
    if not status.busy:
        return "QLoRA Studio"
    share = "" if status.share is None else f"{status.share:.0%}"
    return " · ".join(word for word in (share, status.subject or status.what, "QLoRA Studio") if word)
