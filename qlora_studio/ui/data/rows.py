"""The rows of a dataset in a table, by verdict and by words."""

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QFileDialog, QLineEdit

from qlora_studio.core.data.report import DataReport, RowSummary
from qlora_studio.core.words import say
from qlora_studio.ui.data.view import PART_WORDS, is_by_hand, verdict_text, verdict_tone, with_choice
from qlora_studio.ui.kit.layouts import FlowRow
from qlora_studio.ui.kit.tables import Column, Table, TableModel
from qlora_studio.ui.kit.text import Label, visible_text
from qlora_studio.ui.kit.widgets import Button, Card, row

_COLUMNS = (
    Column(
        say("Row"), lambda row: f"{row.number + 1:,}", right=True, tip=lambda row: say("line {line:,}", line=row.line)
    ),
    Column(say("Tokens"), lambda row: "–" if row.tokens is None else f"{row.tokens:,}", right=True),
    Column(say("First words"), lambda row: visible_text(row.words), stretch=True),
    Column(say("Dataset"), lambda row: row.dataset, share=0.16),
    Column(say("Part"), lambda row: PART_WORDS[row.part]),
    Column(say("Verdict"), verdict_text, tone=verdict_tone, share=0.26),
)
_DATASET = 3
_BY_HAND = "left out"
_VERDICTS = {
    "all": say("all"),
    "ok": say("ok"),
    "repaired": say("repaired"),
    "rejected": say("rejected"),
    "duplicate": say("duplicate"),
    _BY_HAND: say("left out"),
}


class RowsCard(Card):
    """Shows the listing of a report.

    Signals:
        row_requested: look at a row; its number from 0.
        save_requested: write the verdicts to this path.
        leaving_requested: leave out the rows of these keys by hand, or put them back; the keys, and whether.
    """

    row_requested = Signal(object)
    leaving_requested = Signal(tuple, bool)
    save_requested = Signal(str)

    def __init__(self) -> None:
        super().__init__(say("Rows"))
        self._report: DataReport | None = None
        self._by_hand: frozenset[str] = frozenset()
        self._group = QButtonGroup(self)
        self.pills = {name: Button(name, "pill", checkable=True) for name in _VERDICTS}
        self.search = QLineEdit()
        self.search.setProperty("searches", True)
        self.search.setPlaceholderText(say("Filter"))
        self.search.setAccessibleName(say("Filter the rows"))
        self.search.setMinimumWidth(72)
        self.search.setMaximumWidth(150)
        self.save = Button(
            say("Save report…"), "quiet", tip=say("Write every row that is not ok, with its place and reason")
        )
        self.model = TableModel(_COLUMNS)
        self.table = Table(self.model, name=say("Rows"))
        self.table.setMinimumHeight(220)
        self._note = Label("", "caption")
        self.leave = Button(
            say("Leave out"), "quiet", tip=say("Train without the selected rows, and all that say the same")
        )
        self.put_back = Button(say("Put all back"), "quiet", tip=say("Train with every row that is left out by hand"))
        for pill in self.pills.values():
            self._group.addButton(pill)
        self.header.insertWidget(1, FlowRow(*self.pills.values()))
        self.add_header(self.search)
        self.add(self.table)
        foot = row()
        foot.addWidget(self._note, 1)
        foot.addWidget(self.put_back)
        foot.addWidget(self.leave)
        foot.addWidget(self.save)
        self.body.addLayout(foot)
        self.pills["all"].setChecked(True)
        self._group.buttonClicked.connect(lambda _button: self._show_rows())
        self.search.textChanged.connect(self._show_rows)
        self.table.selectionModel().currentRowChanged.connect(self._on_current_changed)
        self.table.selectionModel().selectionChanged.connect(lambda *_: self._show_leaving())
        self.leave.clicked.connect(self._on_leave_clicked)
        self.put_back.clicked.connect(lambda: self.leaving_requested.emit(tuple(self._by_hand), False))
        self.save.clicked.connect(self._on_save_clicked)
        self.show_left_out(())

    def show_left_out(self, keys: Sequence[str]) -> None:
        """Show which rows the draft leaves out by hand: at once, before they are counted anew."""
        if self._by_hand != frozenset(keys):
            self._by_hand = frozenset(keys)
            self._show_counts()
        self.put_back.setVisible(bool(self._by_hand))

    def show_report(self, report: DataReport | None) -> None:
        """Show the rows of a dataset."""
        self._report = report
        self.table.setColumnHidden(_DATASET, report is None or len(report.sources) < 2)
        self.save.setVisible(bool(report and report.verdicts_path))
        self._show_counts()

    def _show_counts(self) -> None:
        report = self._report
        counts = report.rows.model_dump() if report else {}
        for name, pill in self.pills.items():
            count = counts.get("total" if name == "all" else name, 0)
            if name == "duplicate" and report:
                count = report.rows.duplicates + report.rows.near_duplicates
            if name == _BY_HAND and report:
                listed = sum(row.key in self._by_hand for row in report.listing)
                count = max(listed, report.rows.excluded if self._by_hand else 0)
            pill.setText(f"{_VERDICTS[name]} {count:,}")
            pill.setVisible(name in ("all", "ok") or count > 0)
            if pill.isChecked() and count == 0:
                self.pills["all"].setChecked(True)
        self._show_rows()

    def _show_rows(self) -> None:
        listing = self._report.listing if self._report else ()
        verdict = next(name for name, pill in self.pills.items() if pill.isChecked())
        words = self.search.text().lower().split()
        shown = [row for row in (with_choice(row, self._by_hand) for row in listing) if _fits(row, verdict, words)]
        self.model.set_rows(tuple(shown))
        total = self._report.rows.total if self._report else 0
        partial = self._report is not None and self._report.complete and len(listing) < total
        self._note.setText(
            say("{listing:,} of {total:,} rows are listed", listing=len(listing), total=total) if partial else ""
        )
        self._show_leaving()

    def _selected(self) -> tuple[str, ...]:
        """Return the keys of the selected rows; a rejected one has none, it is left out as it is."""
        rows = [self.model.row(index.row()) for index in self.table.selectionModel().selectedRows()]
        return tuple(dict.fromkeys(row.key for row in rows if row.key))

    def _show_leaving(self) -> None:
        keys = self._selected()
        self.leave.setEnabled(bool(keys))
        self.leave.setText(say("Put back") if keys and self._by_hand.issuperset(keys) else say("Leave out"))

    def _on_leave_clicked(self) -> None:
        keys = self._selected()
        self.leaving_requested.emit(keys, not self._by_hand.issuperset(keys))

    def _on_current_changed(self, current: object) -> None:
        line = current.row()  # type: ignore[attr-defined]
        if 0 <= line < self.model.rowCount():
            self.row_requested.emit(self.model.row(line).number)

    def _on_save_clicked(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, say("Save the report"), "rows.jsonl", say("JSON Lines (*.jsonl)"))
        if path:
            self.save_requested.emit(path)


def _fits(row: RowSummary, verdict: str, words: list[str]) -> bool:
    text = f"{row.words} {row.reason} {row.number + 1} {row.dataset}".lower()
    if verdict == _BY_HAND:
        fits = is_by_hand(row)
    else:
        fits = verdict in ("all", row.verdict) or (verdict == "duplicate" and bool(row.duplicate))
    return fits and all(word in text for word in words)
