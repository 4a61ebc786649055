"""Connects the GPU panel to the estimate, the card, and the settings that it can change."""

import os
from typing import Any

from PySide6.QtCore import QObject

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.fit import FitVerdict, memory_savings
from qlora_studio.core.memory.gpu_catalogue import GPUS, find_gpu
from qlora_studio.core.memory.probe_record import ProbeRecord, newest_for
from qlora_studio.core.quantity import MIB, bytes_text
from qlora_studio.core.words import say
from qlora_studio.jobs.card_choice import count_together
from qlora_studio.jobs.gpu_sample import GpuSample
from qlora_studio.storage.runs.probe_records import probe_records
from qlora_studio.ui.kit.seen import WhenSeen
from qlora_studio.ui.memory.panel import GpuPanel
from qlora_studio.ui.memory.together import uneven_advice
from qlora_studio.ui.memory.view import available_bytes, fit_text, is_worth_it
from qlora_studio.ui.state.estimates import EstimatedCard
from qlora_studio.ui.state.studio import Studio

_MOST_SAVINGS = 4
_STEADY = 256 * MIB  # what other programs hold changes each second; how many layers are checkpointed should not


class PanelWiring(QObject):
    """The panel with the estimate and the card behind it."""

    def __init__(self, studio: Studio, panel: GpuPanel) -> None:
        super().__init__(panel)
        self._studio, self._panel = studio, panel
        self._gpu_seen, self._run_seen = WhenSeen(panel, self._render_gpu), WhenSeen(panel, self._render_run)
        studio.estimates.estimated.connect(self._on_estimated)
        studio.gpu.changed.connect(self._take_card)
        studio.gpu.changed.connect(self._gpu_seen.ask)
        studio.runs.changed.connect(self._take_card)
        studio.runs.changed.connect(self._run_seen.ask)
        studio.runs.worked.connect(self._run_seen.ask)
        self._probed: tuple[str, str | None, float] | None = None
        self._probe: ProbeRecord | None = None
        studio.settings_changed.connect(self._render_assumed)
        panel.advice.change_requested.connect(self._on_change_requested)
        panel.shares.change_requested.connect(studio.draft.set_values)
        self._uneven: tuple[str, str, dict[str, Any]] | None = None
        panel.card_chosen.connect(lambda wish: studio.draft.set_value("hardware.gpus", wish))
        studio.draft.changed.connect(self._on_draft_changed)
        panel.render_wish(studio.draft.config.hardware.gpus)
        self._render_assumed()

    def _on_estimated(self, result: Estimate | None, why_not: str) -> None:
        self._panel.render_estimate(result, why_not)
        self._render_advice()

    def _on_change_requested(self, values: dict[str, Any]) -> None:
        self._studio.draft.propose_values(say("What is advised for the card"), values)

    def _on_draft_changed(self, config: RunConfig) -> None:
        self._panel.render_wish(config.hardware.gpus)
        self._render_shares()

    def _render_shares(self) -> None:
        """Say where a step cannot be dealt evenly to the chosen cards, and what mends it."""
        uneven = uneven_advice(self._studio.draft.config, self._count())
        if uneven != self._uneven:  # asked with each sample, and the button that is there stays
            self._uneven = uneven
            why, words, values = uneven or ("", "", {})
            title = say("A step does not come out even") if uneven else ""
            self._panel.shares.show_advice(title, why, [(words, values)] if uneven else [])

    def _count(self) -> int:
        """Return how many cards would train the draft together."""
        return count_together(self._studio.draft.config.hardware.gpus, self._studio.gpu.cards, os.environ)

    def _render_run(self) -> None:
        shown, watched = self._studio.runs.shown, self._studio.watched()
        self._panel.render_run(*(item.store.state if item is not None else None for item in (shown, watched)))

    def _take_card(self) -> None:
        """Estimate for the card that is assumed, or for the one here with what its newest probe taught."""
        sample, assumed = self._studio.gpu.sample, find_gpu(self._studio.settings.assumed_gpu)
        if assumed is not None:
            self._studio.estimates.take_card(EstimatedCard(free_bytes=assumed.free_bytes, spec=assumed))
        elif sample is not None and sample.available:
            free = available_bytes(sample)
            steady = None if free is None else free // _STEADY * _STEADY
            spec, probe = find_gpu(sample.name), self._probe_of(sample)
            card = EstimatedCard(free_bytes=steady, spec=spec, probe=probe, cards=self._count())
            self._studio.estimates.take_card(card)
            self._render_shares()
        else:
            self._studio.estimates.take_card(EstimatedCard())

    def _probe_of(self, sample: GpuSample) -> ProbeRecord | None:
        """Return the newest probe of a card; the records are read again once a run has probed anew."""
        shown = self._studio.runs.shown
        probe = shown.store.state.probe if shown is not None else None
        key = (sample.uuid, sample.driver, probe.time if probe is not None else 0.0)
        if key != self._probed:
            self._probed = key
            self._probe = newest_for(probe_records(), sample.uuid, sample.driver)
        return self._probe

    def _render_gpu(self) -> None:
        gpu = self._studio.gpu
        before = self._panel.fit()
        self._panel.render_samples(gpu.samples, gpu.memories)
        self._panel.render_measured(gpu.measured_bytes)
        after = self._panel.fit()
        if (before and before.verdict) != (after and after.verdict):
            self._render_advice()

    def _render_assumed(self) -> None:
        name = self._studio.settings.assumed_gpu
        spec = next((spec for spec in GPUS if spec.name == name), None)
        if spec is None:
            self._panel.render_assumed("", 0, 0)
        else:
            self._panel.render_assumed(name, spec.total_bytes, spec.free_bytes)
        self._take_card()
        self._render_advice()

    def _render_advice(self) -> None:
        fit, found = self._panel.fit(), self._studio.estimates.found
        shape = found.facts.shape if found is not None and found.facts is not None else None
        fastest = self._studio.estimates.fastest() if fit is not None and shape is not None else None
        proposed = [(fit_text(fastest), fastest.proposal.changes)] if fastest and is_worth_it(fastest) else []
        if fit is None or shape is None or fit.verdict == FitVerdict.FITS:
            faster = say("Faster on this card") if self._count() == 1 else say("Faster on these cards")
            self._panel.advice.show_advice(faster if proposed else "", "", proposed)
            return
        offered = memory_savings(self._studio.draft.config, shape, row_tokens=self._studio.estimates.row_tokens)[
            :_MOST_SAVINGS
        ]
        lines = [*proposed, *((saving.text, saving.change) for saving in offered)]
        missing = bytes_text(max(0, -fit.spare_bytes))
        title = say("A tight fit") if fit.verdict == FitVerdict.TIGHT else say("{missing} too much", missing=missing)
        text = say("Each of these makes it smaller:") if lines else say("Choose a smaller model.")
        self._panel.advice.show_advice(title, text, lines)
