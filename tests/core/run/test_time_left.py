"""The time left, against runs whose every second is known: told while they go on, it must be right within 10 %."""

import json
import math
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qlora_studio.core.run.time_left import Schedule, TimeLeft

RECORDED = Path(__file__).parents[2] / "compatibility"


@dataclass
class Run:
    """A run as it will have been: what each step takes, and what stands between the steps."""

    seed: int = 1
    rows: int = 3200
    epochs: float = 2.0
    rows_in_step: int = 16
    spread: float = 0.6  # of the lengths' logarithm
    share: float = 0.2  # of a step's time that does not go by its tokens
    noise: float = 0.05
    warm_up: float = 8.0
    evaluation_steps: int = 100
    evaluation_seconds: float = 40.0
    saving_steps: int = 0
    saving_minutes: float = 10.0
    saving_seconds: float = 3.0
    begins_at: int = 0
    held_up: dict[int, float] = field(default_factory=dict)

    def told(self) -> list[tuple[int, float, float]]:
        """Return steps from the twentieth on, what was told to be left at the end of each, and what was left."""
        draw = random.Random(self.seed)
        lengths = [max(8, round(draw.lognormvariate(5.5, self.spread))) for _ in range(self.rows)]
        per_epoch = math.ceil(self.rows / self.rows_in_step)
        total = math.ceil(per_epoch * self.epochs)
        epochs = [draw.sample(lengths, len(lengths)) for _ in range(math.ceil(self.epochs))]
        starts = range(0, self.rows, self.rows_in_step)  # the last step of an epoch has what is left
        tokens = [sum(order[at : at + self.rows_in_step]) for order in epochs for at in starts][:total]
        mean = sum(lengths) / per_epoch
        found = TimeLeft(
            Schedule(
                step_tokens=mean,
                evaluates=bool(self.evaluation_steps),
                evaluation_steps=self.evaluation_steps,
                saving_steps=self.saving_steps,
                saving_seconds=self.saving_minutes * 60,
            )
        )
        clock, since_saved, marks = 0.0, 0.0, []
        if self.evaluation_steps:
            found.evaluation(self.evaluation_seconds * 1.1)  # it warms up, too
        for step in range(self.begins_at + 1, total + 1):
            seconds = 3 * (self.share + (1 - self.share) * tokens[step - 1] / mean) * draw.gauss(1, self.noise)
            seconds *= self.warm_up if step == self.begins_at + 1 else 1
            seconds += self.held_up.get(step, 0.0)
            clock += seconds
            found.step(tokens[step - 1], seconds)
            if step - self.begins_at in (20, 21, 35) or step % 61 == 0 or step == total:
                marks.append((step, found.seconds(step, total), clock))
            evaluates = self.evaluation_steps and (step % self.evaluation_steps == 0 or step == total)
            if evaluates:
                clock += self.evaluation_seconds
                found.evaluation(self.evaluation_seconds)
            is_due = self.saving_steps and step % self.saving_steps == 0
            if clock - since_saved > self.saving_minutes * 60 or is_due or evaluates or step == total:
                clock, since_saved = clock + self.saving_seconds, clock
                found.saving(self.saving_seconds)
        return [(step, left, clock - then) for step, left, then in marks if step >= self.begins_at + 20]


@given(
    run=st.builds(
        Run,
        seed=st.integers(0, 10**6),
        rows=st.sampled_from([800, 1603, 3200]),
        epochs=st.sampled_from([1.0, 2.5]),
        rows_in_step=st.sampled_from([8, 16, 32]),
        spread=st.sampled_from([0.0, 0.3, 0.8]),
        share=st.sampled_from([0.0, 0.2, 0.9]),
        noise=st.sampled_from([0.0, 0.1]),
        warm_up=st.sampled_from([1.0, 3.0, 40.0]),
        evaluation_steps=st.sampled_from([0, 10, 100]),
        evaluation_seconds=st.sampled_from([2.0, 90.0]),
        begins_at=st.sampled_from([0, 7]),
    )
)
@settings(max_examples=100, deadline=None)
def test_after_twenty_steps_the_time_left_is_right_within_ten_percent(run: Run) -> None:
    """The lengths of the rows ahead are not known: by chance, a few steps take that much more or less."""
    of_a_step = 3 * math.sqrt((math.exp(run.spread**2) - 1) / run.rows_in_step)
    for step, left, truth in run.told():
        chance = 5 * math.hypot(of_a_step, 3 * run.noise) * math.sqrt(max(truth, left) / 3)
        assert left == pytest.approx(truth, rel=0.1, abs=max(15, chance)), f"step {step}"


def test_a_step_that_was_held_up_does_not_move_it() -> None:
    run = Run(held_up={15: 600.0})
    for _, left, truth in run.told()[:3]:
        assert left == pytest.approx(truth, rel=0.1)


def test_rows_that_were_short_so_far_leave_the_long_ones_to_come() -> None:
    left = TimeLeft(Schedule(step_tokens=1000))
    for _ in range(20):
        left.step(500, 5.0)
    assert left.seconds(20, 40) == pytest.approx(20 * 15.0)


def test_a_pace_that_changes_is_followed() -> None:
    left = TimeLeft(Schedule(step_tokens=100))
    for _ in range(200):
        left.step(100, 1.0)
    for _ in range(100):
        left.step(100, 2.0)
    assert left.seconds(300, 400) == pytest.approx(200.0)


@pytest.mark.parametrize(
    ("step", "seconds"),
    [(1, 9 + 5 * 10 + 5 * 2), (2, 8 + 5 * 10 + 5 * 2), (3, 7 + 4 * 10 + 4 * 2), (10, 10 + 2)],
)
def test_evaluations_and_what_each_makes_safe_are_counted(step: int, seconds: float) -> None:
    left = TimeLeft(Schedule(step_tokens=100, evaluates=True, evaluation_steps=2))
    left.evaluation(10.0)
    left.saving(2.0)
    for _ in range(step):
        left.step(100, 1.0)
    assert left.seconds(step, 10) == pytest.approx(seconds)


def test_before_any_step_and_after_the_last_it_is_what_the_rest_takes() -> None:
    left = TimeLeft(Schedule(step_tokens=100))
    assert left.seconds(0, 10) == 0
    left.step(0, 1.0)
    assert left.seconds(1, 1) == 0


def test_runs_that_were_recorded_are_told_as_they_then_went() -> None:
    seen = 0
    for path in sorted(RECORDED.rglob("events.jsonl")):
        events = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        steps = [event for event in events if event["type"] == "step_done"]
        if len(steps) < 6:
            continue
        left = TimeLeft(Schedule(step_tokens=sum(event["tokens"] for event in steps) / len(steps)))
        for event in steps[:4]:
            left.step(event["tokens"], event["seconds"])
        truth = sum(event["seconds"] for event in steps[4:])
        assert left.seconds(4, len(steps)) == pytest.approx(truth, rel=0.5)
        seen += 1
    assert seen


def test_the_schedule_alone_decides_what_is_beside_the_steps() -> None:
    plan = Schedule(step_tokens=100, saving_seconds=5.0)
    without, by_steps = TimeLeft(plan), TimeLeft(replace(plan, saving_steps=2, saving_seconds=0.0))
    for each in (without, by_steps):
        each.saving(1.0)
        each.step(100, 1.0)
    assert without.seconds(1, 11) == pytest.approx(10 + 1 + 2)
    assert by_steps.seconds(1, 11) == pytest.approx(10 + 1 + 5)
