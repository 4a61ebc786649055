"""How a file is read, where the program cannot know: its format, its encoding, and which column plays which part."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PySide6.QtWidgets import QGridLayout

from qlora_studio.core.config.run_config import RunConfig, all_settings
from qlora_studio.core.data.formats import MAPPING_KEYS, UNKNOWN, form_of_mapping, found_mapping
from qlora_studio.core.data.report import SourceReport
from qlora_studio.core.words import say
from qlora_studio.ui.data.datasets_view import changed, encoding_texts, evidence_text
from qlora_studio.ui.kit.fields import ComboBox, LineEdit
from qlora_studio.ui.kit.text import ElidedLabel, Label, set_tooltip
from qlora_studio.ui.kit.widgets import Button, Card, begun, row

_PARTS = {
    "conversation": say("Conversation"),
    "prompt": say("Prompt"),
    "completion": say("Answer"),
    "context": say("Context before the prompt"),
    "system": say("System text"),
    "tools": say("Tools"),
    "text": say("Or all of it: text"),
}
_KEYS = say("Keys and roles of its turns")
_KEYS_OF_TURNS = tuple(name for name in MAPPING_KEYS if name not in _PARTS)
_NONE = "—"


class ColumnMapping(Card):
    """Combo boxes over the real columns. `ask` takes the values that the user wants, by path, all at once."""

    def __init__(self, ask: Callable[[dict[str, Any]], object], *, at_once: bool = True) -> None:
        """Make the card; not `at_once`, its `steps` are left to the caller, and nothing is asked of it before."""
        super().__init__(say("How it is read"))
        self._ask = ask
        self.steps = begun(self._made(), at_once=at_once)

    def _made(self) -> Iterator[None]:
        infos = {info.path: info for info in all_settings()}
        self.format = ComboBox(infos["data.format"].choices)
        self.encoding = ComboBox(infos["data.encoding"].choices)
        self.parts = {name: ComboBox() for name in _PARTS}
        self.dataset = ComboBox()
        self.dataset.setAccessibleName(say("Dataset"))
        self.use = Button(say("Read with these columns"), tip=say("Read the file again, each column as chosen above"))
        self._config, self._sources = RunConfig(), tuple[SourceReport, ...]()
        self._found = ("", "")
        self._file: tuple[str, str, tuple[str, ...]] = ("", "", ())
        self.keys = LineEdit()
        self.keys.setPlaceholderText(
            say("role = speaker; content = text; user_role = Customer; assistant_role = Agent, Bot")
        )
        self.keys.setAccessibleName(_KEYS)
        yield
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(6)
        fields = [(say("Format"), self.format), (say("Encoding"), self.encoding)]
        fields += [(_PARTS[name], combo) for name, combo in self.parts.items()]
        for index, (title, combo) in enumerate(fields):
            label = Label(title, "muted")
            label.setBuddy(combo)
            combo.setAccessibleName(title)
            grid.addWidget(label, 2 * (index // 3), index % 3)
            grid.addWidget(combo, 2 * (index // 3) + 1, index % 3)
            grid.setColumnStretch(index % 3, 1)
        set_tooltip(self.encoding, infos["data.encoding"].help)
        self.add_header(self.dataset)
        self.dataset.setMinimumWidth(180)
        self._evidence = Label("", "caption", wrap=True)
        self.add(self._evidence)
        self.body.addLayout(grid)
        yield
        self._readings = [ElidedLabel("", "caption") for _ in infos["data.encoding"].choices]
        self.add(*self._readings)
        self._help = Label("", "caption", wrap=True)
        self._keys_label = Label(_KEYS, "muted")
        self._keys_label.setBuddy(self.keys)
        self.add(self._keys_label, self.keys)
        line = row()
        line.addWidget(self._help, 1)
        line.addWidget(self.use)
        self.body.addLayout(line)
        self.format.chosen.connect(lambda value: self._change(format=value))
        self.encoding.chosen.connect(lambda value: self._change(encoding=value))
        self.dataset.chosen.connect(lambda _value: self._show())
        for combo in self.parts.values():
            combo.chosen.connect(lambda _value: self._check())
        self.keys.textChanged.connect(lambda _text: self._check())
        self.use.clicked.connect(self._on_use_clicked)

    def show_sources(self, sources: Sequence[SourceReport], config: RunConfig) -> None:
        """Show the columns of the datasets and what the draft makes of them."""
        self._config, self._sources = config, tuple(sources[: len(config.data.sources)])
        chosen = self.dataset.value()
        self.dataset.set_choices({str(index): source.name for index, source in enumerate(self._sources)})
        self.dataset.set_value(chosen if chosen and int(chosen) < len(self._sources) else "0")
        self.dataset.setVisible(len(self._sources) > 1)
        self._show()

    def _show(self) -> None:
        index = self._index()
        draft = self._config.data.sources[index]
        known = self._sources[index] if self._sources else SourceReport(name="", path=draft.path)
        self.format.set_value(draft.format)
        self.encoding.set_value(draft.encoding)
        mapping = draft.mapping or known.proposed or found_mapping(known.format, known.columns)
        beside = {name: mapping[name] for name in _KEYS_OF_TURNS if name in mapping}
        found = (draft.path, "; ".join(f"{name} = {value}" for name, value in beside.items()))
        file = (draft.path, known.path, tuple(known.columns))
        same_file, self._file = file == self._file, file  # what was chosen for another file says nothing of this one
        if found != self._found:  # what is typed stays until the file, or what is known of it, is another
            self._found = found
            self.keys.show_text(found[1])
            if not self.keys.is_being_typed():
                self.keys.setCursorPosition(0)
        for name, combo in self.parts.items():
            before = (combo.value() if same_file else "") or mapping.get(name, "")
            combo.set_choices({"": _NONE, **{column: column for column in known.columns}})
            wanted = draft.mapping.get(name, before)
            combo.set_value(wanted if wanted in known.columns else "")
        self._evidence.setText(evidence_text(known, is_mapped=bool(draft.mapping)))
        self._evidence.setVisible(bool(self._evidence.text()))
        texts = encoding_texts(known)
        for label, text in zip(self._readings, [*texts, "", "", ""], strict=False):
            label.setText(text)
            label.setVisible(bool(text))
        self._check()

    def _index(self) -> int:
        return int(self.dataset.value() or 0)

    def _change(self, **fields: Any) -> None:
        self._ask(changed(self._config.data, self._index(), **fields))

    def mapping(self) -> dict[str, str]:
        """Return the part that each chosen column plays."""
        return {name: combo.value() for name, combo in self.parts.items() if combo.value()} | self._beside()

    def _beside(self) -> dict[str, str]:
        """Return what the line says of keys and roles, which no combo box shows; they are those of a conversation."""
        pairs = (part.partition("=") for part in self.keys.text().split(";") if part.strip())
        return {name.strip(): value.strip() for name, _, value in pairs} if self.parts["conversation"].value() else {}

    def _check(self) -> None:
        mapping = self.mapping()
        complete = form_of_mapping(mapping) != UNKNOWN
        wrong = [name for name, value in self._beside().items() if name not in _KEYS_OF_TURNS or not value]
        self.use.setEnabled(complete and not wrong)
        for part in (self._keys_label, self.keys):
            part.setVisible(bool(self.parts["conversation"].value()))
        missing = say("Choose the column of the conversation, those of prompt and answer, or one of text.")
        unknown = say(
            "Write {keys_of_turns} = what the file has for it, with ; between them.",
            keys_of_turns=", ".join(_KEYS_OF_TURNS),
        )
        self._help.setText(missing if not complete else unknown if wrong else "")

    def _on_use_clicked(self) -> None:
        mapping = self.mapping()
        self._change(format=form_of_mapping(mapping), mapping=mapping)
