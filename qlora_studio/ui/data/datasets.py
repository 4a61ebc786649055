"""The datasets of the run with their weights, what becomes of duplicates and bad rows, and what is held out."""

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from qlora_studio.core.data.report import DataReport, SourceReport
from qlora_studio.core.quantity import counted
from qlora_studio.core.run.run_config import RunConfig, all_settings
from qlora_studio.ui.data.datasets_view import changed, duplicates_text, evaluation_text, removed
from qlora_studio.ui.data.source import PATTERN
from qlora_studio.ui.data.source_line import SourceLine
from qlora_studio.ui.data.view import data_title
from qlora_studio.ui.kit.fields import ComboBox
from qlora_studio.ui.kit.plain_text import Label, set_tooltip
from qlora_studio.ui.kit.side_by_side import SideBySide
from qlora_studio.ui.kit.widgets import Card, Rule, column

_BREAKPOINT = 600
_FILE = "a file"  # no split is called so: it has a space


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
        self.evaluation = ComboBox()
        self.evaluation.setAccessibleName("Held-out rows")
        self._duplicates_text, self._bad_text = Label("", "caption"), Label("", "caption")
        self._held_text = Label("", "caption", wrap=True)
        self._shown: list[SourceReport] = []
        self._report: DataReport | None = None
        for name, combo in (("duplicates", self.duplicates), ("bad_rows", self.bad_rows)):
            info = infos[f"data.{name}"]
            combo.setAccessibleName(info.title)
            set_tooltip(combo, info.help)
            combo.chosen.connect(lambda value, path=info.path: self.settings_requested.emit({path: value}))
        self._build()
        self.evaluation.chosen.connect(self._on_evaluation_chosen)

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
        self._shown, self._report = known, report
        self._show_evaluation(known, report)
        for label in (self._duplicates_text, self._bad_text, self._held_text):
            label.setVisible(bool(label.text()))

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

    def _show_evaluation(self, known: Sequence[SourceReport], report: DataReport | None) -> None:
        """Offer a share, each other split of the first dataset, and a file."""
        data = self._config.data
        splits = known[0].subsets.get(known[0].subset, ()) if known else ()
        words = {"": "A share of the rows"} | {f"={name}": f"Split {name}" for name in splits if name != known[0].split}
        own, value = data.evaluation, ""
        if own is not None:
            value = f"={own.split}" if not data.evaluation_path else _FILE
        named = data_title(data.evaluation_path) if data.evaluation_path else "A file…"
        self.evaluation.set_choices({**words, value: words.get(value, data.evaluation_split), _FILE: named})
        self.evaluation.set_value(value)
        self._held_text.setText(evaluation_text(data, report))

    def _on_evaluation_chosen(self, value: str) -> None:
        path, split = "", value.removeprefix("=")
        if value == _FILE:
            path, split = QFileDialog.getOpenFileName(self, "Evaluation file", "", PATTERN)[0], ""
            if not path:
                self._show_evaluation(self._shown, self._report)
                return
        self._ask({"data.evaluation_path": path, "data.evaluation_split": split})

    def _build(self) -> None:
        blocks = (
            _titled("Duplicates", self.duplicates, self._duplicates_text),
            _titled("Bad rows", self.bad_rows, self._bad_text),
            _titled("Held-out rows", self.evaluation, self._held_text),
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
