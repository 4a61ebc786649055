"""Keeps the estimate true to the draft: reads the model's files beside the event loop, then computes."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import LengthStatistics
from qlora_studio.core.errors import StudioError
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fastest import FastestFit, Situation, fastest_fit
from qlora_studio.core.memory.fit import Fit, FitVerdict, judge
from qlora_studio.core.memory.gpu_catalogue import GpuSpec
from qlora_studio.core.memory.probe_record import ProbeRecord
from qlora_studio.core.memory.sharding import with_sharding
from qlora_studio.core.memory.spare import estimate_with_spare
from qlora_studio.core.memory.step_rate import StepRate, rate_note, step_rate
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.words import say
from qlora_studio.storage.models.location import ModelFacts, ModelLocation, locate_model, model_facts
from qlora_studio.storage.runs.parent_adapter import with_parent
from qlora_studio.ui.state.background import Background

_SETTLE_MILLISECONDS = 60


class FoundModel(NamedTuple):
    """A model and what its files say; no facts where it is not on this machine."""

    location: ModelLocation
    facts: ModelFacts | None


@dataclass(frozen=True)
class EstimatedCard:
    """The card that is estimated for, a recent one where there is none: its kind, and what a probe taught of it.

    `free_bytes` is what a run can have of it, where that is known. `cards` are how many train together.
    """

    free_bytes: int | None = None
    spec: GpuSpec | None = None
    probe: ProbeRecord | None = None
    cards: int = 1


class EstimateControl(QObject):
    """Looks up the draft's model and estimates the draft.

    Signals:
        model_asked: another model is looked for, or none is chosen; nothing is known of it yet.
        model_found: a FoundModel.
        model_missing: a StudioError: there is no such model, or it is refused.
        estimated: the Estimate of the draft, or None, and why there is none.
    """

    model_asked = Signal()
    model_found = Signal(object)
    model_missing = Signal(object)
    estimated = Signal(object, str)

    def __init__(self) -> None:
        super().__init__()
        self.found: FoundModel | None = None
        self.missing: StudioError | None = None
        self.estimate: Estimate | None = None
        self._rate: StepRate | None = None
        self._rated = RunConfig()
        self._lengths: LengthStatistics | None = None
        self._config = RunConfig()
        self._card = EstimatedCard()
        self._asked: tuple[str, str] | None = None
        self._look_up = Background(self)
        self._look_up.answered.connect(self._on_look_up_answered)
        self._look_up.failed.connect(self._on_look_up_failed)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SETTLE_MILLISECONDS)
        self._timer.timeout.connect(self._compute)

    def take_config(self, config: RunConfig) -> None:
        """Estimate another draft; look its model up where that is another one."""
        self._config = config
        source = (config.model.source, config.model.revision)
        if source != self._asked:
            self.look_again()
        else:
            self._timer.start()

    def take_lengths(self, lengths: LengthStatistics | None) -> None:
        """Estimate with the longest row or pack of the data, None where they are not known."""
        if lengths != self._lengths:
            self._lengths = lengths
            self._timer.start()

    @property
    def rate(self) -> StepRate | None:
        """How fast the draft would train, None where that is not known, or not yet of what it is now."""
        return self._rate if self._rated == self._config else None

    @property
    def row_tokens(self) -> int | None:
        """The longest sequence that the draft would train, None where it is not known."""
        training = self._config.training
        if self._lengths is None:
            return None
        return self._lengths.sequence_tokens(packing=training.packing, max_length=training.max_length)

    @property
    def fit(self) -> Fit | None:
        """Whether the draft fits the card; None where what it takes is not known, or there is no card."""
        free = self._card.free_bytes
        return judge(self.estimate, free) if self.estimate is not None and free is not None else None

    @property
    def card(self) -> EstimatedCard:
        """The card that is estimated for."""
        return self._card

    def take_card(self, card: EstimatedCard) -> None:
        """Estimate for another card, or for none: then without the context that a card would need."""
        if card != self._card:
            self._card = card
            self._timer.start()

    def fastest(self) -> FastestFit | None:
        """Return the fastest settings that fit the card; None where there is no card or no model."""
        facts, free = self.found.facts if self.found else None, self._card.free_bytes
        if facts is None or facts.shape is None or free is None:
            return None
        try:
            config = with_parent(self._config)
        except StudioError:  # no such adapter to go on from: the estimate says so
            return None
        shape = facts.shape
        card, lengths = self._card, self._lengths
        config = with_sharding(config, shape, free, card.cards, lambda tried: self._tried(tried, shape))
        situation = Situation(shape, card.spec, free, lambda tried: self._tried(tried, shape), lengths, card.cards)
        return fastest_fit(config, situation)

    def look_again(self) -> None:
        """Read the model's files again: a download may have ended."""
        source, revision = self._asked = (self._config.model.source, self._config.model.revision)
        self.found = self.missing = None
        self.model_asked.emit()
        if source:
            self._tell(None, say("The model's files are looked at."))
            self._look_up.ask(_find, source, revision)
        else:
            self._look_up.forget()
            self._tell(None, say("Choose a model to see what it takes."))

    def compute_again(self) -> None:
        """Estimate the same draft again: the adapter that it goes on from is another."""
        self._timer.start()

    def end(self) -> None:
        """Tell nothing any more."""
        self._timer.stop()
        self._look_up.forget()

    def _on_look_up_answered(self, found: FoundModel) -> None:
        self.found = found
        self.model_found.emit(found)
        self._compute()

    def _on_look_up_failed(self, error: StudioError) -> None:
        self.missing = error
        self.model_missing.emit(error)
        self._tell(None, say("The Model page says what is wrong with the model."))

    def _compute(self) -> None:
        if self.found is None:
            return
        facts = self.found.facts
        if facts is None:
            self._tell(None, say("Download the model to see what it takes."))
        elif facts.shape is None:
            self._tell(None, say("There is no formula for {architecture} yet.", architecture=facts.architecture))
        else:
            try:
                self._tell(self._estimate(facts.shape), "")
            except StudioError as error:  # no such adapter to go on from
                self._tell(None, error.message)

    def _estimate(self, shape: ModelShape) -> Estimate:
        card, config = self._card, with_parent(self._config)
        resolved, found = estimate_with_spare(
            config, shape, card.free_bytes, lambda tried: self._tried(tried, shape), card.cards
        )
        fits = card.free_bytes is not None and judge(found, card.free_bytes).verdict is not FitVerdict.NO
        rate = self._rate = step_rate(resolved, shape, card.spec, self._lengths, cards=card.cards) if fits else None
        self._rated = self._config
        return replace(found, notes=(*found.notes, rate_note(rate, config, shape, card.spec))) if fits else found

    def _tried(self, config: RunConfig, shape: ModelShape) -> Estimate:
        card, rows = self._card, self.row_tokens
        return estimate(config, shape, row_tokens=rows, gpu=card.spec, probe=card.probe)

    def _tell(self, result: Estimate | None, why_not: str) -> None:
        self.estimate = result
        self._rate = self._rate if result else None
        self.estimated.emit(result, why_not)


def _find(source: str, revision: str) -> FoundModel:
    location = locate_model(source, revision)
    return FoundModel(location, model_facts(location) if location.path is not None else None)
