"""A dataset in the list: its name, what it holds, its weight, and the subset and split where it has several."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from qlora_studio.core.data.report import SourceReport
from qlora_studio.ui.data.datasets_view import choices, source_text
from qlora_studio.ui.kit.fields import ComboBox, NumberBox
from qlora_studio.ui.kit.plain_text import ElidedLabel, Label
from qlora_studio.ui.kit.widgets import Button, column, row

_LEAST_WEIGHT, _MOST_WEIGHT = 0.001, 100.0


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
        self.remove = Button("Remove", "quiet")
        self.subset, self.split = ComboBox(), ComboBox()
        self._subset_title, self._split_title = Label("Subset", "muted"), Label("Split", "muted")
        self.use = Button("Use it")
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
        self.weight.setAccessibleName(f"Weight of {source.name}")
        self.remove.setAccessibleName(f"Remove {source.name}")
        self.weight.blockSignals(True)
        self.weight.setValue(source.weight)
        self.weight.blockSignals(False)
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
            (self._subset_title, self.subset, "Subset"),
            (self._split_title, self.split, "Split"),
        ):
            combo.setAccessibleName(words)
            combo.setMinimumWidth(150)
            title.setBuddy(combo)
            second.addWidget(title)
            second.addWidget(combo)
        second.addWidget(self.use)
        second.addStretch(1)
        outer.addWidget(self._choice)
