"""The X-ray: one row as it is trained, token by token, with its record and its rendered text."""

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QPlainTextEdit, QWidget

from qlora_studio.core.data.report import DataReport, RowPreview, TokenPiece
from qlora_studio.core.words import say
from qlora_studio.ui.data.token_view import PieceSample, TokenView
from qlora_studio.ui.data.view import PART_WORDS, pack_text, packed_tokens, place_text, row_text
from qlora_studio.ui.kit.fields import SpinBox
from qlora_studio.ui.kit.fonts import wear_text
from qlora_studio.ui.kit.layouts import FlowRow, SideBySide
from qlora_studio.ui.kit.text import ElidedLabel, Label, visible_lines
from qlora_studio.ui.kit.theme import mono_font
from qlora_studio.ui.kit.widgets import Button, Card, column, row

_PICKS = {"longest": say("longest"), "shortest": say("shortest"), "random": say("random")}
_SAMPLES = {
    say("trained"): TokenPiece(id=0, string="", trained=True),
    say("context"): TokenPiece(id=0, string=""),
    say("special"): TokenPiece(id=0, string="", special=True),
    say("cut off"): TokenPiece(id=0, string="", cut=True),
}
_NEIGHBOUR = TokenPiece(id=0, string="", packed=True)


class XrayCard(Card):
    """Shows a row.

    Signals:
        row_requested: show another: longest, shortest, random, or a row's number from 0.
        leaving_requested: leave out the rows of these keys by hand, or put them back; the keys, and whether.
    """

    row_requested = Signal(object)
    leaving_requested = Signal(tuple, bool)

    def __init__(self) -> None:
        super().__init__(say("What will be trained"))
        self.picks = {name: Button(words, "pill", checkable=True) for name, words in _PICKS.items()}
        self.rejected = Button(say("first rejected"), "pill", checkable=True)
        self.number = SpinBox(1, 1)
        self.number.setPrefix(say("row") + " ")
        self.number.setFixedWidth(104)
        self.number.setAccessibleName(say("Row number"))
        self.tokens = TokenView()
        self._problem = Label("", wrap=True, selectable=True)
        self._problem.set_tone("bad")
        self._raw, self._text = _reading_field(say("Record as it is in the file")), _reading_field(say("Rendered text"))
        self._pending = Label(
            say("– Tokens appear when the row is read with the settings as they are now."), "muted", wrap=True
        )
        self._pointed, self._size = ElidedLabel(" ", "caption"), Label("", "caption", wrap=True)
        self._pack, self._remarks = Label("", "caption", wrap=True), Label("", wrap=True, selectable=True)
        self.more = Button(say("Record and text"), "quiet", checkable=True)
        self._neighbour = PieceSample(say("packed neighbour"), _NEIGHBOUR)
        self.leave = Button(
            say("Leave it out"),
            "quiet",
            tip=say("Train without this row, and all that say the same; it can be put back"),
        )
        self._row: RowPreview | None = None
        self._by_hand: Sequence[str] = ()
        self._first_rejected: int | None = None
        self._build()
        self._connect()

    def show_report(self, report: DataReport | None) -> None:
        """Adapt the buttons to a dataset."""
        rejections = report.rejections if report else ()
        self._first_rejected = rejections[0].number if rejections else None
        self.rejected.setVisible(self._first_rejected is not None)
        self.number.setMaximum(max(1, report.rows.total if report else 1))
        self.number.setEnabled(bool(report and report.rows.total))

    def show_row(self, row: RowPreview | None) -> None:
        """Show a row, or that it is on its way."""
        self._row = row
        self._pending.setVisible(row is None)
        self.setMinimumHeight(self.height() if row is None and self.isVisible() else 0)
        if row is None:
            self._show_none()
            return
        self.number.blockSignals(True)
        self.number.setMaximum(max(self.number.maximum(), row.number + 1))
        self.number.blockSignals(False)
        self.number.show_value(row.number + 1)
        shown = packed_tokens(row)
        self.tokens.show_tokens(shown.tokens, shown.labels, first=shown.first)
        self.tokens.setVisible(bool(row.tokens))
        self._neighbour.setVisible(row.pack is not None)
        self._legend.setVisible(bool(row.tokens))
        self._show_size()
        self._pack.setText(pack_text(row))
        self._pack.setVisible(row.pack is not None)
        self._remarks.setText("\n".join(row.remarks))
        self._remarks.setVisible(bool(row.remarks))
        self._problem.setText(_problem_text(row))
        self._problem.setVisible(bool(self._problem.text()))
        self._raw.setPlainText(visible_lines(row.raw))
        self._text.setPlainText(visible_lines(row.text))
        if not row.tokens:
            self.more.setChecked(True)

    def _show_none(self) -> None:
        self.tokens.show_tokens(())
        self._size.setText("")
        for part in (self._problem, self.tokens, self._pack, self._remarks, self.leave, self._legend):
            part.hide()
        for field in (self._raw, self._text):
            field.setPlainText("")

    def show_left_out(self, keys: Sequence[str]) -> None:
        """Say of the shown row whether the draft leaves it out by hand."""
        self._by_hand = keys
        self._show_size()

    def _show_size(self) -> None:
        row = self._row
        by_hand = row is not None and row.key in self._by_hand
        self.leave.setVisible(row is not None and bool(row.key))
        self.leave.setText(say("Put it back") if by_hand else say("Leave it out"))
        if row is not None:
            part = say("left out by hand") if by_hand else PART_WORDS[row.part]
            parts = (row_text(row), part, place_text(row) if row.tokens else "")
            self._size.setText(" · ".join(part for part in parts if part))

    def _on_leave_clicked(self) -> None:
        if self._row is not None:
            self.leaving_requested.emit((self._row.key,), self._row.key not in self._by_hand)

    def _build(self) -> None:
        self.add_header(FlowRow(*self.picks.values(), self.rejected, self.number))
        self.add(self._pending, self._problem, self.tokens)
        others = [PieceSample(name, piece) for name, piece in _SAMPLES.items()]
        self._legend = FlowRow(*others, self._neighbour)
        foot = row(spacing=12)
        foot.addWidget(self._legend, 1)
        foot.addWidget(self.leave, 0, Qt.AlignmentFlag.AlignTop)
        foot.addWidget(self.more, 0, Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignRight)
        self.body.addLayout(foot)
        self.add(self._size, self._pointed, self._pack, self._remarks)
        self._reading = SideBySide(
            _titled(say("Record"), self._raw), _titled(say("Rendered"), self._text), breakpoint=560
        )
        self.add(self._reading)
        self._reading.hide()
        self._problem.hide()
        self._pack.hide()
        self._remarks.hide()
        self._pending.hide()
        self.rejected.hide()
        self.leave.hide()

    def _connect(self) -> None:
        for name, button in self.picks.items():
            button.clicked.connect(lambda _checked=False, name=name: self._ask(name, self.picks[name]))
        self.rejected.clicked.connect(lambda: self._ask(self._first_rejected, self.rejected))
        self.number.valueChanged.connect(lambda value: self._ask(value - 1, None))
        self.leave.clicked.connect(self._on_leave_clicked)
        self.more.toggled.connect(self._reading.setVisible)
        self.tokens.pointed.connect(lambda text: self._pointed.setText(text or " "))

    def _ask(self, row: object, button: Button | None) -> None:
        for other in (*self.picks.values(), self.rejected):
            other.setChecked(other is button)
        self.row_requested.emit(row)


def _problem_text(row: RowPreview) -> str:
    where = place_text(row)
    where = where[:1].upper() + where[1:] if where.startswith("line") else where
    if row.verdict == "rejected":
        return say("{where} is rejected: {reason}.", where=where, reason=row.reason)
    if row.problem:
        return say("{where} cannot be trained: {problem}.", where=where, problem=row.problem)
    repeats = {"exact": say("It equals an earlier row."), "near": say("It nearly equals an earlier row.")}.get(
        row.duplicate, ""
    )
    repaired = (
        say("{where} was repaired: {reason}.", where=where, reason=row.reason) if row.verdict == "repaired" else ""
    )
    return f"{repaired} {repeats}".strip()


def _reading_field(name: str) -> QPlainTextEdit:
    field = QPlainTextEdit()
    field.setReadOnly(True)
    wear_text(field, mono_font(), 12)
    field.setFixedHeight(150)
    field.setAccessibleName(name)
    return field


def _titled(title: str, field: QWidget) -> QWidget:
    whole = QWidget()
    box = column(whole, spacing=4)
    box.addWidget(Label(title, "caption"))
    box.addWidget(field)
    return whole
