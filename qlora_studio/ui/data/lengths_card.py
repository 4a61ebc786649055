"""The card of lengths: histogram, max length, and the table behind the picture."""

from PySide6.QtCore import Signal

from qlora_studio.core.data.report import LengthStatistics
from qlora_studio.ui.data.lengths import LengthHistogram, cut_text
from qlora_studio.ui.data.view import lengths_text, tokens_text
from qlora_studio.ui.kit.plain_text import Label
from qlora_studio.ui.kit.table import Column, Table, TableModel
from qlora_studio.ui.kit.widgets import Button, Card

_COLUMNS = (
    Column("From", lambda item: f"{item[0]:,}", right=True),
    Column("to", lambda item: f"{item[1]:,} tokens", right=True),
    Column("Rows", lambda item: f"{item[2]:,}", right=True, stretch=True),
)


class LengthsCard(Card):
    """Shows lengths.

    Signals:
        max_length_requested: the user moved the line.
    """

    max_length_requested = Signal(int)

    def __init__(self) -> None:
        super().__init__("Tokens per row")
        self._lengths: LengthStatistics | None = None
        self.histogram = LengthHistogram()
        self._cut, self._words, self._tokens = (Label("", role, wrap=True) for role in ("small", "caption", "caption"))
        self._model = TableModel(_COLUMNS)
        self.table = Table(self._model, name="Rows by length")
        self.table.setFixedHeight(168)
        self.table.hide()
        self.fold = Button("Table", "quiet", checkable=True)
        self.add_header(self.fold)
        self.add(self.histogram, self.table, self._cut, self._words, self._tokens)
        self.body.addStretch(1)
        self.fold.toggled.connect(self._on_fold_toggled)
        self.histogram.moved.connect(self._say_what_is_cut)
        self.histogram.max_length_requested.connect(self.max_length_requested)

    def show_lengths(self, lengths: LengthStatistics | None, max_length: int) -> None:
        """Show lengths, and the max length of the run."""
        self._lengths = lengths
        self.histogram.show_lengths(lengths, max_length)
        bins = zip(lengths.edges, lengths.edges[1:], lengths.counts, strict=False) if lengths else ()
        self._model.set_rows(tuple(item for item in bins if item[2]))
        self._words.setText(lengths_text(lengths) if lengths else "")
        self._tokens.setText(tokens_text(lengths) if lengths else "")
        self._say_what_is_cut(max_length)

    def _say_what_is_cut(self, max_length: int) -> None:
        self._cut.setText(cut_text(self._lengths, max_length) if self._lengths else "")

    def _on_fold_toggled(self, shown: bool) -> None:
        self.table.setVisible(shown)
        self.histogram.setVisible(not shown)
