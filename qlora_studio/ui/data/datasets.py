"""The datasets of the run, a line each with its weight; what becomes of duplicates and bad rows, what is held out."""

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from qlora_studio.core.config.run_config import RunConfig, all_settings
from qlora_studio.core.data.report import DataReport, SourceReport
from qlora_studio.core.run.titles import data_title
from qlora_studio.core.words import say, say_count
from qlora_studio.ui.data.datasets_view import changed, choices, duplicates_text, evaluation_text, removed, source_text
from qlora_studio.ui.data.source import PATTERN
from qlora_studio.ui.kit.fields import ComboBox, NumberBox
from qlora_studio.ui.kit.layouts import SideBySide
from qlora_studio.ui.kit.text import ElidedLabel, Label, set_tooltip
from qlora_studio.ui.kit.widgets import Button, Card, Rule, column, row

_LEAST_WEIGHT, _MOST_WEIGHT = 0.001, 100.0
_BREAKPOINT = 600
_COUNTED_ANEW = {"tokens": 0, "trained_tokens": 0, "dropped": 0, "not_drawn": 0, "seen": 0, "untrainable": 0}
_FILE = "a file"  # no split is called so: it has a space


class SourceLine(QWidget):
    """One dataset.

    Signals:
        changed: fields of it: weight, or subset and split.
        removed: take it out.
    """

    changed = Signal(dict)
    removed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.name, self._facts = ElidedLabel("", "strong", middle=True), Label("", "caption", wrap=True)
        self.weight = NumberBox(_LEAST_WEIGHT, _MOST_WEIGHT)
        self.weight.setPrefix("× ")
        self.weight.setFixedWidth(86)
        self.weight.setKeyboardTracking(False)
        self.remove = Button(say("Remove"), "quiet")
        self.subset, self.split = ComboBox(), ComboBox()
        self._subset_title, self._split_title = Label(say("Subset"), "muted"), Label(say("Split"), "muted")
        self.use = Button(say("Use it"))
        self._subsets: dict[str, tuple[str, ...]] = {}
        self._build()
        self.weight.valueChanged.connect(lambda value: self.changed.emit({"weight": value}))
        self.remove.clicked.connect(self.removed)
        self.subset.chosen.connect(lambda _value: self._on_subset_chosen())
        self.split.chosen.connect(lambda _value: self._on_split_chosen())
        self.use.clicked.connect(self._ask)

    def show_source(self, source: SourceReport, *, whole: int, several: bool) -> None:
        """Show a dataset; `whole` is how many tokens an epoch trains on, `several` whether it is one of more."""
        self.name.setText(source.name)
        self._facts.setText(source_text(source, whole))
        self._facts.setVisible(bool(self._facts.text()))
        self.weight.setAccessibleName(say("Weight of {name}", name=source.name))
        self.remove.setAccessibleName(say("Remove {name}", name=source.name))
        self.weight.show_value(source.weight)
        self.remove.setVisible(several)
        self._show_choice(source)

    def _show_choice(self, source: SourceReport) -> None:
        self._subsets = source.subsets
        words, subset = choices(tuple(source.subsets), source.subset)
        self.subset.set_choices(words)
        self.subset.set_value(subset)
        self._show_splits(source.split)
        has_choice = len(source.subsets) > 1 or any(len(splits) > 1 for splits in source.subsets.values())
        for part in (self.subset, self._subset_title):
            part.setVisible(len(source.subsets) > 1)
        self._choice.setVisible(has_choice)
        self.use.setVisible(has_choice and not source.files)

    def _show_splits(self, wanted: str) -> None:
        splits = self._subsets.get(self.subset.value(), ())
        words, split = choices(splits, wanted)
        self.split.set_choices(words)
        self.split.set_value(split)
        for part in (self.split, self._split_title):
            part.setVisible(len(splits) > 1)

    def _on_subset_chosen(self) -> None:
        self._show_splits("")
        self._on_split_chosen()

    def _on_split_chosen(self) -> None:
        if not self.use.isVisibleTo(self):
            self._ask()

    def _ask(self) -> None:
        self.changed.emit({"subset": self.subset.value(), "split": self.split.value()})

    def _build(self) -> None:
        outer = column(self, margins=(0, 5, 0, 5), spacing=4)
        first = row(spacing=10)
        first.addWidget(self.name, 1)
        first.addWidget(self.weight)
        first.addWidget(self.remove)
        outer.addLayout(first)
        outer.addWidget(self._facts)
        self._choice = QWidget()
        second = row(self._choice, spacing=10)
        for title, combo, words in (
            (self._subset_title, self.subset, say("Subset")),
            (self._split_title, self.split, say("Split")),
        ):
            combo.setAccessibleName(words)
            combo.setMinimumWidth(150)
            title.setBuddy(combo)
            second.addWidget(title)
            second.addWidget(combo)
        second.addWidget(self.use)
        second.addStretch(1)
        outer.addWidget(self._choice)


class SourcesCard(Card):
    """Lists the datasets of a draft. `ask` takes the values that the user wants, by path, all at once."""

    def __init__(self, ask: Callable[[dict[str, Any]], object]) -> None:
        super().__init__(say("Datasets"))
        self._ask = ask
        infos = {info.path: info for info in all_settings()}
        self._config = RunConfig()
        self.lines: list[SourceLine] = []
        self._list = column(spacing=2)
        self.body.addLayout(self._list)
        self.duplicates = ComboBox(infos["data.duplicates"].choices)
        self.bad_rows = ComboBox(infos["data.bad_rows"].choices)
        self.evaluation = ComboBox()
        self.evaluation.setAccessibleName(say("Held-out rows"))
        self._duplicates_text, self._bad_text = Label("", "caption"), Label("", "caption")
        self._held_text = Label("", "caption", wrap=True)
        self._shown: list[SourceReport] = []
        self._report: DataReport | None = None
        for name, combo in (("duplicates", self.duplicates), ("bad_rows", self.bad_rows)):
            info = infos[f"data.{name}"]
            combo.setAccessibleName(info.title)
            set_tooltip(combo, info.help)
            combo.chosen.connect(lambda value, path=info.path: ask({path: value}))
        self._build()
        self.evaluation.chosen.connect(self._on_evaluation_chosen)

    def show_sources(
        self,
        config: RunConfig,
        sources: Sequence[SourceReport],
        report: DataReport | None,
        *,
        current: bool = True,
    ) -> None:
        """Show the datasets of a draft, with what is known of them so far; what is not `current` is not counted."""
        self._config = config
        report = report if current else None
        sources = sources if current else [source.model_copy(update=_COUNTED_ANEW) for source in sources]
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
        self._bad_text.setText(
            say_count(bad, "{count:,} row", "{count:,} rows")
            if bad
            else say("None.")
            if report and report.lengths
            else ""
        )
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

    def _show_evaluation(self, known: Sequence[SourceReport], report: DataReport | None) -> None:
        """Offer a share, each other split of the first dataset, and a file."""
        data = self._config.data
        splits = known[0].subsets.get(known[0].subset, ()) if known else ()
        words = {"": say("A share of the rows")} | {
            f"={name}": say("Split {name}", name=name) for name in splits if name != known[0].split
        }
        own, value = data.evaluation, ""
        if own is not None:
            value = f"={own.split}" if not data.evaluation_path else _FILE
        named = data_title(data.evaluation_path) if data.evaluation_path else say("A file…")
        self.evaluation.set_choices({**words, value: words.get(value, data.evaluation_split), _FILE: named})
        self.evaluation.set_value(value)
        self._held_text.setText(evaluation_text(data, report))

    def _on_evaluation_chosen(self, value: str) -> None:
        path, split = "", value.removeprefix("=")
        if value == _FILE:
            path, split = QFileDialog.getOpenFileName(self, say("Evaluation file"), "", PATTERN)[0], ""
            if not path:
                self._show_evaluation(self._shown, self._report)
                return
        self._ask({"data.evaluation_path": path, "data.evaluation_split": split})

    def _build(self) -> None:
        blocks = (
            _titled(say("Duplicates"), self.duplicates, self._duplicates_text),
            _titled(say("Bad rows"), self.bad_rows, self._bad_text),
            _titled(say("Held-out rows"), self.evaluation, self._held_text),
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
