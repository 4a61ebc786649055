"""The panel at the right of every page: what a run will take above what is taken now, on one scale; how the card is."""

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtGui import QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QWidget

from qlora_studio.core.config.run_config import AUTO_CARD
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.fit import Fit, judge
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say
from qlora_studio.jobs.gpu_sample import GpuSample
from qlora_studio.jobs.process_memory import ProcessMemory
from qlora_studio.ui.kit.fields import ComboBox
from qlora_studio.ui.kit.scrolling import ScrollArea
from qlora_studio.ui.kit.tables import FactGrid
from qlora_studio.ui.kit.text import ElidedLabel, Label
from qlora_studio.ui.kit.theme import active_theme
from qlora_studio.ui.kit.widgets import Rule, column
from qlora_studio.ui.memory.parts import Advice, CardBars, CardChecks, Gauges, MemoryBar, PartsLegend, ProgramLines
from qlora_studio.ui.memory.together import card_checks, together_bars, together_programs, together_title
from qlora_studio.ui.memory.view import (
    FIT_WORDS,
    BarView,
    available_bytes,
    card_bar,
    card_choices,
    card_title,
    estimate_bar,
    estimate_title,
    machine_bar,
    measured_text,
    program_lines,
)
from qlora_studio.ui.state.memory_phases import phase_lines, run_estimate


class GpuPanel(QWidget):
    """Shows an estimate, samples of the card, or the machine's memory where there is no card.

    Signals:
        card_chosen: the user chooses what to train on; carries a value of `hardware.gpus`.
    """

    card_chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName(say("Graphics card"))
        self._estimate: Estimate | None = None
        self._sample: GpuSample | None = None
        self._assumed: tuple[str, int, int] | None = None
        self._name = ElidedLabel(say("Graphics card"), "title")
        self._facts = Label(say("Looking for a card …"), "caption", wrap=True)
        self.cards = ComboBox()
        self.cards.setAccessibleName(say("Graphics card to train on"))
        self.cards.chosen.connect(self.card_chosen.emit)
        self._choices: dict[str, str] = {}
        self._wish = AUTO_CARD
        self.checks = CardChecks()
        self.checks.chosen.connect(self.card_chosen.emit)
        self._estimate_bar = MemoryBar(say("Estimate"))
        self._now_bar = MemoryBar(say("Now"))
        self._card_bars = CardBars()
        self._legend = PartsLegend()
        self._programs = ProgramLines()
        self._measured = Label("", "caption", wrap=True)
        self._phases_title = Label(say("Measured by phase, and how far from the estimate"), "caption", wrap=True)
        self._phases = FactGrid()
        self._comparison = QWidget()
        self._measured_bytes = 0
        self._run_estimate: Estimate | None = None
        self._gauges = Gauges()
        self.advice = Advice()
        self.shares = Advice()  # near the choice of cards, which is why a step may not come out even
        self._build()
        self.render_estimate(None, say("Choose a model to see what it takes."))

    def render_estimate(self, estimate: Estimate | None, note: str = "") -> None:
        """Show an estimate, or why there is none."""
        self._estimate = estimate
        self._estimate_bar.note.setText("" if estimate else note)
        self._estimate_bar.note.setVisible(estimate is None)
        self._legend.show_estimate(estimate)
        self._render_bars()
        self._show_measured()

    def render_assumed(self, name: str, total_bytes: int, free_bytes: int) -> None:
        """Measure estimates against a card that is not here, and what a run can have of it; an empty name ends that."""
        self._assumed = (name, total_bytes, free_bytes) if name else None
        self._render_bars()

    def render_wish(self, wish: str) -> None:
        """Show which card was chosen, by `hardware.gpus`."""
        self._wish = wish
        self._render_choices()

    def render_samples(self, samples: Sequence[GpuSample], memories: Sequence[ProcessMemory]) -> None:
        """Show the newest sample and the history; without a card, the machine's memory."""
        self._sample = samples[-1] if samples else None
        if self._sample is not None:
            name, facts = together_title(self._sample) if self._sample.together else card_title(self._sample)
            self._name.setText(name)
            self._facts.setText(facts)
            self._facts.set_tone("bad" if self._sample.is_lost or self._sample.unusable else "")
            self._render_choices()
        several = self._sample is not None and self._sample.available and bool(self._sample.together)
        self._now_bar.setVisible(not several)
        self._gauges.setVisible(not several)
        self._card_bars.show_bars(together_bars(self._sample) if self._sample is not None and several else ())
        if self._sample is not None and several:
            self._programs.show_lines(together_programs(self._sample), several=True)
        elif self._sample is not None and self._sample.available:
            self._now_bar.show_bar(card_bar(self._sample))
            self._gauges.show_card(samples)
            self._programs.show_lines(program_lines(self._sample))
        elif memories:
            self._now_bar.show_bar(machine_bar(memories[-1]))
            self._gauges.show_machine(memories)
            self._programs.show_lines(())
        self._render_bars()

    def render_measured(self, measured_bytes: int) -> None:
        """Show the most that the run at work took so far beside its own estimate; 0 shows nothing."""
        self._measured_bytes = measured_bytes
        self._show_measured()

    def render_run(self, state: RunState | None, at_work: RunState | None) -> None:
        """Show what each phase of a run took beside its estimate; None, or a run on a processor, shows nothing.

        `at_work` is the run whose use of the card is measured now.
        """
        self._run_estimate = run_estimate(at_work) if at_work else None
        lines = phase_lines(state) if state else ()
        self._phases.show_facts([(line.label, f"{line.measured} · {line.difference}") for line in lines])
        self._phases.setVisible(bool(lines))
        self._phases_title.setVisible(bool(lines))
        self._show_measured()

    def fit(self) -> Fit | None:
        """Return what the chip says; None where there is no estimate, or no card to judge it by."""
        available = self._available()
        return judge(self._estimate, available) if self._estimate is not None and available else None

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the surface and the line at the edge of the page."""
        theme, painter = active_theme(), QPainter(self)
        painter.fillRect(self.rect(), theme.color("panel"))
        edge = self.width() - 1 if self.isRightToLeft() else 0
        painter.fillRect(edge, 0, 1, self.height(), theme.color("line"))
        painter.end()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Leave out the history where the window is low."""
        super().resizeEvent(event)
        self._gauges.set_compact(event.size().height() < 720)

    def _render_choices(self) -> None:
        """Fill the choice anew where it changed, and not while it is open."""
        choices = card_choices(self._sample, self._wish) if self._sample is not None else {}
        if choices != self._choices and not self.cards.view().isVisible():
            self._choices = choices
            self.cards.set_choices(choices)
        self.cards.set_value(self._wish)
        self.cards.setVisible(bool(choices))
        self.checks.show_checks(card_checks(self._sample.cards if self._sample is not None else (), self._wish))

    def _render_bars(self) -> None:
        estimate, fit = self._estimate, self.fit()
        self._estimate_bar.setVisible(True)
        if estimate is None:
            self._estimate_bar.show_bar(BarView(say("Estimate"), "", "", (), 1))
        else:
            scale = self._scale()
            assumed = self._assumed[0] if self._assumed else ""
            several = self._sample is not None and len(self._sample.cards) > 1
            title = estimate_title(estimate, assumed, self._wish if several else "", here=scale is not None)
            self._estimate_bar.show_bar(estimate_bar(estimate, scale or round(estimate.total_bytes * 1.25), title))
        if fit is not None:
            self._estimate_bar.chip.show_word(*FIT_WORDS[fit.verdict])
        self._estimate_bar.chip.setVisible(fit is not None)

    def _show_measured(self) -> None:
        """Compare what was measured with the estimate; leave no gap where there is nothing to compare."""
        estimate = self._run_estimate
        if self._measured_bytes and estimate:
            text, tone = measured_text(estimate, self._measured_bytes)
            self._measured.setText(text)
            self._measured.set_tone(tone)
        self._measured.setVisible(bool(self._measured_bytes and estimate))
        self._comparison.setHidden(self._measured.isHidden() and self._phases.isHidden())

    def _scale(self) -> int | None:
        if self._assumed is not None:
            return self._assumed[1]
        return self._sample.total_bytes if self._sample is not None and self._sample.available else None

    def _available(self) -> int | None:
        if self._assumed is not None:
            return self._assumed[2]
        return available_bytes(self._sample) if self._sample is not None else None

    def _build(self) -> None:
        inner = column(self._comparison, margins=(0, 0, 0, 12), spacing=8)
        for measured in (self._measured, self._phases_title, self._phases):
            inner.addWidget(measured)
            measured.hide()
        self._comparison.hide()
        content = QWidget()
        content.setProperty("surface", "clear")
        box = column(content, margins=(16, 20, 6, 16), spacing=0)
        for part, gap in (
            (self._name, 2),
            (self._facts, 8),
            (self.cards, 6),
            (self.checks, 0),
            (self.shares, 6),
            (self._estimate_bar, 14),
            (self._now_bar, 12),
            (self._legend, 12),  # of the estimate: above what may be many
            (self._card_bars, 0),
            (self._programs, 0),
            (Rule(), 12),
            (self._comparison, 0),
            (self._gauges, 0),
        ):
            box.addWidget(part)
            box.addSpacing(gap)
        box.addStretch(1)
        box.addSpacing(12)
        box.addWidget(self.advice)
        column(self, margins=(1, 0, 0, 0)).addWidget(ScrollArea(content, across=False))
