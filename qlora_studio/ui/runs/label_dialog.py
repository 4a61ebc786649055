"""The dialog for what a user calls a run: name, tags, note; of several runs, tags to add to each."""

from PySide6.QtWidgets import QDialog, QFormLayout, QLineEdit, QPlainTextEdit, QWidget

from qlora_studio.core.words import say
from qlora_studio.storage.run_care.run_label import LONGEST_NAME, RunLabel, tags_of
from qlora_studio.ui.kit.letters import give_letters
from qlora_studio.ui.kit.question import DialogButtons
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import column

_WIDTH = 460
_WORDS = say(
    "Only the name that is shown changes, not the folder, and nothing of what the run does. "
    "Without one, it is that of its settings."
)


class LabelDialog(QDialog):
    """Asks for a run's name, tags and note. `given_name` is what its settings call it; an empty one leaves that.

    With `several`, for so many runs, tags alone, which are added to those that each has.
    """

    def __init__(self, parent: QWidget, label: RunLabel, *, given_name: str = "", several: int = 0) -> None:
        super().__init__(parent)
        self.setWindowTitle(say("Add tags") if several else say("Name, tags and note"))
        self.setMinimumWidth(_WIDTH)
        self.name, self.tags, self.note = QLineEdit(label.name), QLineEdit(", ".join(label.tags)), QPlainTextEdit()
        self.name.setPlaceholderText(given_name)
        self.name.setMaxLength(LONGEST_NAME)  # nothing is typed that would not be kept
        self.tags.setPlaceholderText(say("baseline, rank 32"))
        self.note.setPlainText(label.note)
        self.note.setTabChangesFocus(True)
        for field, words in ((self.name, say("Name")), (self.tags, say("Tags, with commas")), (self.note, say("Note"))):
            field.setAccessibleName(words)
        form = QFormLayout()
        if not several:
            form.addRow(say("Name"), self.name)
        form.addRow(say("Tags"), self.tags)
        if not several:
            form.addRow(say("Note"), self.note)
        self.buttons = DialogButtons(self, say("Save"))
        box = column(self, margins=(18, 16, 18, 16), spacing=12)
        words = say("They are added to the tags of {several} runs.", several=several) if several else _WORDS
        box.addLayout(form)
        box.addWidget(Label(words, "caption", wrap=True))
        box.addWidget(self.buttons)
        (self.tags if several else self.name).setFocus()
        give_letters(self)

    def label(self) -> RunLabel:
        """Return what was typed, cut where it is longer than a label can be."""
        return RunLabel(
            name=" ".join(self.name.text().split())[:LONGEST_NAME],
            tags=tuple(tag[:LONGEST_NAME] for tag in tags_of(self.tags.text())),
            note=self.note.toPlainText()[:20_000],
        )
