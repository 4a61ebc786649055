"""The datasets of the run with their weights, what becomes of duplicates and bad rows, and what is held out."""

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from qlora_studio.core.data_report import DataReport, SourceReport
from qlora_studio.core.quantity import counted
from qlora_studio.core.run_config import RunConfig, all_settings
from qlora_studio.ui.data_source import PATTERN
from qlora_studio.ui.data_view import data_title
from qlora_studio.ui.fields import ComboBox
from qlora_studio.ui.plain_text import ElidedLabel, Label, set_tooltip
from qlora_studio.ui.side_by_side import SideBySide
from qlora_studio.ui.source_line import SourceLine
from qlora_studio.ui.sources_view import changed, duplicates_text, evaluation_text, removed
from qlora_studio.ui.widgets import Button, Card, Rule, column, row

_BREAKPOINT = 600


class SourcesCard(Card):
    """Lists the datasets of a draft.

    Signals:
        settings_requested: values by path, all at once.
    """

    settings_requested = Signal(dict)

    def __init__(self) -> None:
        super().__init__("Datasets")
        infos = {info.path: info for info in all_settings()}
        self._config = RunConfig()
        self.lines: list[SourceLine] = []
        self._list = column(spacing=2)
        self.body.addLayout(self._list)
        self.duplicates = ComboBox(infos["data.duplicates"].choices)
        self.bad_rows = ComboBox(infos["data.bad_rows"].choices)
        self.evaluation = Button("Choose a file…", "quiet", tip="Held-out rows of your own")
        self._duplicates_text, self._bad_text = Label("", "caption"), Label("", "caption")
        self._held_name, self._held_text = ElidedLabel(""), Label("", "caption", wrap=True)
        for name, combo in (("duplicates", self.duplicates), ("bad_rows", self.bad_rows)):
            info = infos[f"data.{name}"]
            combo.setAccessibleName(info.title)
            set_tooltip(combo, info.help)
            combo.chosen.connect(lambda value, path=info.path: self.settings_requested.emit({path: value}))
        self._build()
        self.evaluation.clicked.connect(self._on_evaluation_clicked)

    def show_sources(self, config: RunConfig, sources: Sequence[SourceReport], report: DataReport | None) -> None:
        """Show the datasets of a draft, with what is known of them so far."""
        self._config = config
        known = [self._known(index, sources) for index in range(len(config.data.sources))]
        while len(self.lines) < len(known):
            self._add_line()
        whole = sum(source.trained_tokens for source in known)
        for line, source in zip(self.lines, known, strict=False):
            line.show_source(source, whole=whole if len(known) > 1 else 0, several=len(known) > 1)
        for index, line in enumerate(self.lines):
            line.setVisible(index < len(known))
        self.duplicates.set_value(config.data.duplicates)
        self.bad_rows.set_value(config.data.bad_rows)
        self._duplicates_text.setText(duplicates_text(report))
        bad = report.rows.rejected + report.rows.untrainable if report else 0
        self._bad_text.setText(counted(bad, "row") if bad else "None." if report and report.lengths else "")
        own = config.data.evaluation
        self._held_name.setText(data_title(own.path) + (f", {own.split}" if own.split else "") if own else "A share")
        self._held_text.setText(evaluation_text(config.data, report))
        self.evaluation.setText("Take a share instead" if own else "Choose a file…")

    def _known(self, index: int, sources: Sequence[SourceReport]) -> SourceReport:
        """Return what is known of a dataset, with the draft's own weight: it may have changed since."""
        source = self._config.data.sources[index]
        found = sources[index] if index < len(sources) and sources[index].path == source.path else None
        if found is None:
            return SourceReport(name=data_title(source.path), path=source.path, weight=source.weight)
        return found.model_copy(update={"weight": source.weight})

    def _add_line(self) -> None:
        line, index = SourceLine(), len(self.lines)
        line.changed.connect(lambda fields: self._ask(changed(self._config.data, index, **fields)))
        line.removed.connect(lambda: self._ask(removed(self._config.data, index)))
        self._list.addWidget(line)
        self.lines.append(line)

    def _ask(self, settings: dict[str, Any]) -> None:
        self.settings_requested.emit(settings)

    def _on_evaluation_clicked(self) -> None:
        path = ""
        if self._config.data.evaluation is None:
            path, _ = QFileDialog.getOpenFileName(self, "Evaluation file", "", PATTERN)
            if not path:
                return
        self._ask({"data.evaluation_path": path, "data.evaluation_split": ""})

    def _build(self) -> None:
        held = QWidget()
        box = row(held, spacing=6)
        box.addWidget(self._held_name, 1)
        box.addWidget(self.evaluation)
        blocks = (
            _titled("Duplicates", self.duplicates, self._duplicates_text),
            _titled("Bad rows", self.bad_rows, self._bad_text),
            _titled("Held-out rows", held, self._held_text),
        )
        self.add(Rule(), SideBySide(*blocks, breakpoint=_BREAKPOINT, spacing=16))


def _titled(title: str, field: QWidget, text: Label) -> QWidget:
    whole = QWidget()
    box = column(whole, spacing=4)
    name = Label(title, "muted")
    name.setBuddy(field)
    for part in (name, field, text):
        box.addWidget(part)
    box.addStretch(1)
    return whole
