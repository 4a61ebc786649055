"""What the Runs page says of each run, as values."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from qlora_studio.ui.state.run_line import RunLine


def with_queue(lines: Sequence[RunLine], waiting: Sequence[str], waits_for: str = "") -> tuple[RunLine, ...]:
    """Return the runs with their places in the queue, from 1, the first with what it waits for."""
    places = {path: index + 1 for index, path in enumerate(waiting)}
    queued = [places.get(str(Path(line.path).resolve()), 0) for line in lines]
    return tuple(
        replace(line, queued=place, waits_for=waits_for if place == 1 else "")
        for line, place in zip(lines, queued, strict=True)
    )


def when_text(when: float, now: float | None = None) -> str:
    """Return today 14:05, or a date; nothing for one that no calendar has, as a copied file's can be."""
    try:
        moment, today = time.localtime(when), time.localtime(now if now is not None else time.time())
    except (OverflowError, ValueError, OSError):
        return "–"
    if not when:
        return "–"
    same_day = moment[:3] == today[:3]
    return time.strftime("today %H:%M" if same_day else "%Y-%m-%d %H:%M", moment)


def recovery_text(line: RunLine) -> str:
    """Return what happened to a run that broke off, and what is safe."""
    at = f" at step {line.step:,}" if line.step else ""
    if line.safe_step is None:
        return f"{line.name} broke off{at}. It has no checkpoint yet: it would begin again from the start."
    return f"{line.name} broke off{at}. Its checkpoint of step {line.safe_step:,} is safe."


def recovery_advice(broken: int) -> str:
    """Return what can be done about runs that broke off, of which the first is named."""
    more = {1: "", 2: " Another run broke off, too."}.get(broken, f" {broken - 1} other runs broke off, too.")
    return f"Its worker is gone: the computer was switched off, or somebody ended it.{more}"
