"""The cards of the Run page below its curves: answers to the sample prompts, and memory by phase."""

from PySide6.QtCore import QModelIndex

from qlora_studio.core.run.events import SampleGenerated
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say
from qlora_studio.ui.kit.fields import ComboBox
from qlora_studio.ui.kit.tables import ROW_HEIGHT, Column, Table, TableModel
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Card
from qlora_studio.ui.state.memory_phases import memory_text, phase_lines

_MOST_ROWS = 6
_ANSWER_COLUMNS = (
    Column(say("step"), lambda sample: f"{sample.step:,}", right=True),
    Column(
        say("answer"), lambda sample: " ".join(sample.answer.split()), stretch=True, tip=lambda sample: sample.answer
    ),
)
_MEMORY_COLUMNS = (
    Column(say("Phase"), lambda line: line.label, stretch=True),
    Column(say("Estimated"), lambda line: line.estimated, right=True),
    Column(say("Measured"), lambda line: line.measured, right=True),
    Column(say("Difference"), lambda line: line.difference, right=True, tone=lambda line: line.tone),
)


class SampleCard(Card):
    """A prompt to choose, its answers by step, and the chosen answer in full."""

    def __init__(self) -> None:
        super().__init__(say("Sample answers"))
        self._samples: tuple[SampleGenerated, ...] = ()
        self._prompts = ComboBox()
        self._prompts.setAccessibleName(say("Sample prompt"))
        self._prompt = Label("", "muted", wrap=True, selectable=True)
        self._model = TableModel(_ANSWER_COLUMNS)
        self._table = Table(self._model, name=say("Answers by step"))
        self._whole = Label("", wrap=True, selectable=True)
        self._none = Label(
            say("Sample prompts on the Training page are answered at each evaluation."), "muted", wrap=True
        )
        self.add_header(self._prompts)
        self.add(self._none, self._prompt, self._table, self._whole)
        self.body.addStretch(1)
        self._prompts.chosen.connect(lambda _prompt: self._render_rows())
        self._table.selectionModel().currentRowChanged.connect(self._on_row_chosen)
        self.render_samples(())

    def render_samples(self, samples: tuple[SampleGenerated, ...]) -> None:
        """Show all samples so far."""
        if samples == self._samples and samples:
            return
        self._samples = samples
        prompts = {sample.prompt: " ".join(sample.prompt.split())[:60] for sample in samples}
        chosen = self._prompts.value()
        self._prompts.set_choices(prompts)
        if prompts:
            self._prompts.set_value(chosen if chosen in prompts else next(iter(prompts)))
        self._prompts.setVisible(len(prompts) > 1)
        self._none.setVisible(not samples)
        self._render_rows()

    def _render_rows(self) -> None:
        prompt = self._prompts.value()
        rows = tuple(sample for sample in self._samples if sample.prompt == prompt)
        self._prompt.setText(f"“{prompt}”" if rows else "")
        self._prompt.setVisible(bool(rows))
        self._model.set_rows(rows)
        self._table.setVisible(bool(rows))
        self._table.setFixedHeight(ROW_HEIGHT * (min(len(rows), _MOST_ROWS) + 1) + 2)
        self._table.scrollToBottom()
        self._whole.hide()

    def _on_row_chosen(self, current: QModelIndex, _previous: QModelIndex) -> None:
        if current.isValid():
            self._whole.setText(self._model.row(current.row()).answer)
        self._whole.setVisible(current.isValid())


class MemoryCard(Card):
    """Shows estimate and measurement by phase; hidden where nothing was measured, as on a processor."""

    def __init__(self) -> None:
        super().__init__(say("Graphics memory, estimated and measured"))
        self._text = Label("", "caption", wrap=True)
        self.model = TableModel(_MEMORY_COLUMNS)
        self._table = Table(self.model, name=say("Memory by phase"))
        self.add(self._text, self._table)
        self.hide()

    def render_state(self, state: RunState) -> None:
        """Show what is known of a run's memory."""
        lines = phase_lines(state)
        self.model.set_rows(lines)
        self._table.setFixedHeight((len(lines) + 1) * ROW_HEIGHT + 2)
        self._text.setText(memory_text(state))
        self._text.setVisible(bool(self._text.text()))
        self.setVisible(bool(lines))
