"""How long a run will still train, by what its steps, evaluations and savings took so far. Pure."""

from collections import deque
from dataclasses import dataclass
from statistics import fmean, median

_STEPS = 100  # the newest, of which the pace is made
_HELD_UP = 3.0  # times the usual seconds, of a step and of a token: such a step counts as a usual one
_FAR_OFF = 2.0  # times the mean tokens of a step that those to come can have


@dataclass(frozen=True)
class Schedule:
    """What a run does beside its steps. 0 is never; `step_tokens` are the real tokens of a step on average."""

    step_tokens: float
    evaluates: bool = False
    evaluation_steps: int = 0
    saving_steps: int = 0
    saving_seconds: float = 0.0


class TimeLeft:
    """The seconds until a run has taken its last step, measured its held-out rows and made that safe.

    A step with more tokens takes longer; by how much is seen from the steps so far. How many tokens are to come is
    known better than how long the steps so far happened to be: what of the data is left is what was not seen yet.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._steps: deque[tuple[int, float]] = deque(maxlen=_STEPS)
        self._taken = self._seen = 0
        self._evaluation = self._saving = 0.0

    def step(self, tokens: int, seconds: float) -> None:
        """A step was taken. The first of a session warms up: it counts until there are others."""
        self._taken += 1
        self._seen += tokens
        if self._taken == 2:
            self._steps.clear()
        self._steps.append((tokens, seconds))

    def evaluation(self, seconds: float) -> None:
        """The held-out rows were measured."""
        self._evaluation = seconds

    def saving(self, seconds: float) -> None:
        """A checkpoint was made safe."""
        self._saving = seconds

    def seconds(self, step: int, total_steps: int) -> float:
        """Return the time left when a step has just been taken, and nothing yet of what follows it."""
        steps = max(0, total_steps - step)
        training = steps * self._seconds_of_step(steps) if self._steps and steps else 0.0
        plan = self._schedule
        evaluations = _due(plan.evaluation_steps, step, total_steps) if plan.evaluates else 0
        savings = 1 + evaluations + _due(plan.saving_steps, step, total_steps)
        savings += int(training / plan.saving_seconds) if plan.saving_seconds else 0
        return training + (evaluations + plan.evaluates) * self._evaluation + savings * self._saving

    def _seconds_of_step(self, steps: int) -> float:
        """Return what each of so many steps that are left will take on average."""
        counts, times = [tokens for tokens, _ in self._steps], self._usual_times()
        mean_time, mean_count = fmean(times), fmean(counts)
        spread = sum((count - mean_count) ** 2 for count in counts)
        together = sum((count - mean_count) * time for count, time in zip(counts, times, strict=True))
        proportional = mean_time / max(1.0, mean_count)
        slope = min(max(together / spread, 0.0), proportional) if spread else proportional
        return mean_time + slope * (self._tokens_of_step(steps) - mean_count)

    def _usual_times(self) -> list[float]:
        """Return the seconds of each step; of one that something else held up those that it would have taken."""
        of_step = median(seconds for _, seconds in self._steps)
        of_token = median(seconds / max(1, tokens) for tokens, seconds in self._steps)
        return [
            of_token * tokens if seconds > _HELD_UP * max(of_step, of_token * tokens) else seconds
            for tokens, seconds in self._steps
        ]

    def _tokens_of_step(self, steps: int) -> float:
        """Return the tokens of each of so many steps that are left on average: of the data, what was not seen yet."""
        mean = self._schedule.step_tokens
        left = (mean * (self._taken + steps) - self._seen) / steps
        return min(max(left, mean / _FAR_OFF), mean * _FAR_OFF)


def _due(every: int, step: int, total_steps: int) -> int:
    """Return how often something every so many steps is still to come, the last step left out."""
    return (total_steps - 1) // every - (step - 1) // every if every and step < total_steps else 0
