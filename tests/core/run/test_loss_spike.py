"""A spike is what stands far above the steps before; noise, a falling curve and hard batches are none."""

import math
import random
from collections.abc import Sequence
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlora_studio.core.run.events import Resumed, StepDone
from qlora_studio.core.run.loss_spike import DEVIATIONS, LEAST, LossSpike, SpikeFinder
from qlora_studio.core.run.metric_history import MetricHistory


def _falling(step: int, dice: random.Random, noise: float = 0.08) -> float:
    return 0.9 + 1.4 * math.exp(-step / 75) + dice.gauss(0, noise)


def _found(losses: Sequence[float | None]) -> list[LossSpike]:
    finder = SpikeFinder()
    spikes = (finder.add(step, loss) for step, loss in enumerate(losses, start=1))
    return [spike for spike in spikes if spike is not None]


def test_a_loss_far_above_the_steps_before_is_a_spike_with_its_reason() -> None:
    dice = random.Random(1)
    losses = [_falling(step, dice) for step in range(1, 301)]
    losses[211] = 3.4
    (spike,) = _found([*losses])
    assert (spike.step, spike.loss) == (212, 3.4)
    assert spike.usual == pytest.approx(1.0, abs=0.1)
    assert spike.deviations > DEVIATIONS


_NEAR = st.one_of(st.none(), st.floats(0.98, 1.02), st.floats(1.1, 1.25))  # about where a spike begins


@given(st.sampled_from([1.0, 0.0, -1.0]), st.lists(_NEAR, min_size=LEAST, max_size=90))
def test_spikes_are_what_the_definition_says(scale: float, drawn: list[float | None]) -> None:
    losses = [None if loss is None else loss * scale + (1 - abs(scale)) * (loss > 1.1) for loss in drawn]
    expected, before = [], list[float]()
    for step, loss in enumerate(losses, start=1):
        if loss is None:
            continue
        window = before[-50:]
        if len(window) >= LEAST:
            usual = median(window)
            usually_apart = 1.4826 * median(abs(value - usual) for value in window)
            if loss - usual > 8 * max(0.02 * abs(usual), usually_apart, 1e-9):
                expected.append(step)
        before.append(loss)
    assert [spike.step for spike in _found(losses)] == expected


def test_spikes_in_a_row_are_all_found_since_they_do_not_move_what_is_usual() -> None:
    dice = random.Random(2)
    losses = [_falling(step, dice) for step in range(1, 201)]
    losses[150:156] = [4.0] * 6
    assert [spike.step for spike in _found([*losses])] == [151, 152, 153, 154, 155, 156]


@pytest.mark.parametrize("seed", range(20))
def test_the_noise_of_a_usual_run_holds_no_spike(seed: int) -> None:
    dice = random.Random(seed)
    assert _found([_falling(step, dice) for step in range(1, 2001)]) == []


def test_a_curve_without_noise_a_jump_down_and_a_short_run_hold_no_spike() -> None:
    assert _found([1.0] * 100 + [1.05] * 20) == []
    assert _found([2.0] * 60 + [0.5] * 60) == []
    assert _found([1.0] * (LEAST - 1) + [9.0]) == []


def test_a_missing_loss_is_passed_over() -> None:
    losses: list[float | None] = [1.0 + 0.01 * (step % 5) for step in range(60)]
    losses[30] = None
    assert _found([*losses, 5.0])[0].step == 61


def test_spikes_of_steps_that_are_taken_again_are_forgotten() -> None:
    history = MetricHistory()
    for step in [*range(1, 41)]:
        history.extend([_step(step, 9.0 if step == 35 else 1.0 + 0.01 * (step % 5))])
    assert [spike.step for spike in history.spikes] == [35]
    history.extend([Resumed(step=30, checkpoint="checkpoint-30")])
    assert history.spikes == []
    history.extend([_step(31, 9.0)])
    assert [spike.step for spike in history.spikes] == [31]


def _step(step: int, loss: float) -> StepDone:
    return StepDone(step=step, total_steps=100, epoch=0.1, loss=loss, learning_rate=1e-4)
