"""The fastest way to train the same steps on a card: how many rows at a time, and how few layers checkpointed.

The effective batch stays, so that the same is learned. What is proposed surely fits, by the estimate that judges a run.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import LengthStatistics
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.fit import (
    Fit,
    FitVerdict,
    Proposal,
    changes_between,
    fit_to_gpu,
    judge,
    possible_batches,
    split_batch,
)
from qlora_studio.core.memory.gpu_catalogue import GpuSpec
from qlora_studio.core.memory.spare import checkpointed_of, with_spare_memory_used
from qlora_studio.core.memory.step_rate import StepRate, step_rate
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.words import say

_WORTH_IT = 1.05  # times as fast as now: a prediction cannot tell less


@dataclass(frozen=True)
class FastestFit:
    """What to change so that a run fits and is as fast as it gets, and why.

    `gain` is how many times as fast it is then: 1 where nothing is changed for speed, None where that is not known or
    the run does not fit now. Where no `rate` is known, it is what fits with as little changed as possible.
    """

    proposal: Proposal
    rate: StepRate | None = None
    gain: float | None = None
    words: str = ""


@dataclass(frozen=True)
class Situation:
    """For which model and card settings are sought; `estimated` is how an estimate is made for the two.

    Where several `cards` train together, the batches of a step must come out even over them.
    """

    shape: ModelShape
    card: GpuSpec | None
    free_bytes: int
    estimated: Callable[[RunConfig], Estimate]
    lengths: LengthStatistics | None = None
    cards: int = 1


def fastest_fit(config: RunConfig, situation: Situation) -> FastestFit:
    """Return the fastest settings that surely fit; where none does, those that `fit_to_gpu` comes to.

    The settings that are there are kept unless others are faster by more than a prediction may be wrong.
    """
    now = _Trial(config, situation)
    if not now.fits:
        found = _fastest(config, situation)
        eased = fit_to_gpu(config, situation.shape, situation.free_bytes).config
        found = found or _fastest(eased, situation) or _Trial(eased, situation)
        return found.result(config, None)
    found = _fastest(config, situation)
    if now.rate is None or found is None or found.speed < _WORTH_IT * now.speed:
        return now.result(config, 1.0 if now.rate else None)
    return found.result(config, found.speed / now.speed)


class _Trial:
    """Settings as a run with them would be on the card: its memory, and its speed."""

    def __init__(self, config: RunConfig, situation: Situation) -> None:
        self._config, self._situation = config, situation
        shape, free = situation.shape, situation.free_bytes
        self._resolved, _ = with_spare_memory_used(config, shape, free, situation.estimated)
        self._estimate = situation.estimated(self._resolved)
        self._fit: Fit = judge(self._estimate, free)
        self.fits = self._fit.verdict is FitVerdict.FITS
        card, lengths, cards = situation.card, situation.lengths, situation.cards
        self.rate = step_rate(self._resolved, shape, card, lengths, cards=cards) if self.fits else None
        self.speed = self.rate.tokens_per_second if self.rate else 0.0

    def result(self, before: RunConfig, gain: float | None) -> FastestFit:
        """Return the settings as a proposal to whoever has those of `before`."""
        changes = changes_between(before, self._config)
        return FastestFit(
            Proposal(self._config, changes, self._estimate, self._fit), self.rate, gain, self._words(gain)
        )

    def _words(self, gain: float | None) -> str:
        if self.rate is None:
            return ""
        training, layers = self._config.training, self._situation.shape.layers
        batch = say(
            "Batch {batch_size} × {gradient_accumulation}",
            batch_size=training.batch_size,
            gradient_accumulation=training.gradient_accumulation,
        )
        checkpointed = say(
            "{checkpointed_of} of {layers} layers checkpointed",
            checkpointed_of=checkpointed_of(self._resolved, layers),
            layers=layers,
        )
        faster = say(", {gain:.1f} × as fast as now", gain=gain) if gain and gain > 1 else ""
        return f"{batch}, {checkpointed}: {self.rate.words}{faster}"


def _fastest(config: RunConfig, situation: Situation) -> _Trial | None:
    """Return the fastest way to split the effective batch; None where none fits, or nothing is known of speed."""
    return max(
        (trial for trial in _trials(config, situation) if trial.rate), key=lambda trial: trial.speed, default=None
    )


def _trials(config: RunConfig, situation: Situation) -> Iterator[_Trial]:
    """Try every batch that divides the effective one, up to the first that does not fit."""
    update = {"gradient_checkpointing": "auto", "checkpointed_layers": 0}
    config = config.model_copy(update={"training": config.training.model_copy(update=update)})
    for batch in possible_batches(config):
        split = split_batch(config, batch)
        if split.training.gradient_accumulation % situation.cards:
            continue
        trial = _Trial(split, situation)
        if not trial.fits:
            return
        yield trial
