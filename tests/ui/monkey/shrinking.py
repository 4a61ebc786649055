"""Plays actions in a process of its own, and finds the few of a failing sequence that are enough to fail."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.ui.monkey.actions import Action

T = TypeVar("T")
_ROOT = Path(__file__).parents[3]
_LONGEST_SECONDS = 3 * 3600


@dataclass
class Result:
    """How a sequence went. `found` is the kind of what was found, empty where all went well; `at` the last action."""

    found: str = ""
    detail: str = ""
    at: int = 0
    cpu: float = 0.0
    worst: list[float] = field(default_factory=list)
    passed_over: dict[str, int] = field(default_factory=dict)

    def words(self) -> str:
        """Return it for people."""
        cost = f"{self.at + 1} actions, {self.cpu:.0f} s of the processor, longest gaps {self.worst} ms"
        cost += f", passed over: {self.passed_over}" if self.passed_over else ""
        return f"{self.found}\n{self.detail}\n({cost})" if self.found else f"well ({cost})"


@dataclass(frozen=True)
class Rules:
    """What counts: `limit` seconds of work in one turn are a stall; what the pattern finds is known, and passed over.

    A `new` user has no runs and has chosen nothing yet.
    """

    limit: float = 0.1
    passed_over: str = ""
    new: bool = False


def played(actions: Sequence[Action], rules: Rules) -> Result:
    """Play actions at a new window in a new place."""
    with tempfile.TemporaryDirectory(prefix="monkey-") as folder:
        place = Path(folder) / "place"
        environment = os.environ | {
            "PYTHONPATH": str(_ROOT),
            "QT_QPA_PLATFORM": "offscreen",
            "PYTHONWARNINGS": "default",
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.ui.monkey.play", str(place)],
            input=json.dumps({"actions": actions, **asdict(rules)}),
            capture_output=True,
            text=True,
            cwd=_ROOT,
            env=environment,
            timeout=_LONGEST_SECONDS,
            check=False,
        )
        last = done.stdout.splitlines()[-1] if done.stdout.strip() else ""
        if last.startswith("{"):
            told = json.loads(last)
            facts = told["cpu"], told["worst"], told["passed_over"]
            return Result(told["found"], told.get("words", ""), told["at"], *facts)
        at = place / "at"
        number = int(at.read_text() or 0) if at.exists() else 0
        return Result(f"the process ended with {done.returncode}", done.stderr[-6000:], number)


def shrunk(actions: Sequence[Action], found: str, rules: Rules, *, tries: int) -> list[Action]:
    """Return the few of these actions that still bring out the same."""
    return reduced(actions, lambda few: played(few, rules).found == found, tries=tries)


def reduced(things: Sequence[T], fails: Callable[[Sequence[T]], bool], *, tries: int) -> list[T]:
    """Return fewer things that still fail: leave out ever smaller parts (delta debugging), `tries` times at most.

    The end of the sequence, which failed, is tried by itself first: most of what fails does so by what came last.
    """
    few = list(things)
    for length in (4, 16, 64, 256):
        if tries and length < len(few):
            tries -= 1
            if fails(few[-length:]):
                few = few[-length:]
                break
    parts = 2
    while tries and len(few) > 1:
        size = -(-len(few) // parts)
        for begin in range(0, len(few), size):
            rest = few[:begin] + few[begin + size :]
            tries -= 1
            if rest and fails(rest):
                few, parts = rest, max(parts - 1, 2)
                break
            if not tries:
                return few
        else:
            if size == 1:
                return few
            parts = min(2 * parts, len(few))
    return few
