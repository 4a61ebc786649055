"""The card of the Run page on memory: what each phase should take, and took."""

from qlora_studio.core.run.run_state import RunState
from qlora_studio.ui.kit.plain_text import Label
from qlora_studio.ui.kit.table import ROW_HEIGHT, Column, Table, TableModel
from qlora_studio.ui.kit.widgets import Card
from qlora_studio.ui.state.memory_phases import memory_text, phase_lines

_COLUMNS = (
    Column("Phase", lambda line: line.label, stretch=True),
    Column("Estimated", lambda line: line.estimated, right=True),
    Column("Measured", lambda line: line.measured, right=True),
    Column("Difference", lambda line: line.difference, right=True, tone=lambda line: line.tone),
)


class MemoryCard(Card):
    """Shows estimate and measurement by phase; hidden where nothing was measured, as on a processor."""

    def __init__(self) -> None:
        super().__init__("Graphics memory, estimated and measured")
        self._text = Label("", "caption", wrap=True)
        self.model = TableModel(_COLUMNS)
        self._table = Table(self.model, name="Memory by phase")
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
