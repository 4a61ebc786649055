"""The dialog before a run is packed for a bug report: without its user's text, unless they tick that."""

from PySide6.QtWidgets import QCheckBox, QDialog, QWidget

from qlora_studio.core.words import say
from qlora_studio.ui.kit.letters import give_letters
from qlora_studio.ui.kit.question import DialogButtons
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import column
from qlora_studio.ui.runs.view import own_text_words

_WIDTH = 480


class ReportDialog(QDialog):
    """Says what goes in; `with_data` is the tick. `dataset` is what the run's data is called."""

    def __init__(self, parent: QWidget, name: str, dataset: str) -> None:
        super().__init__(parent)
        self.setWindowTitle(say("Pack a bug report"))
        self.setMinimumWidth(_WIDTH)
        self.with_data = QCheckBox(say("Put my data in, too"))
        more = Label(own_text_words(dataset), "caption", wrap=True)
        more.setIndent(26)  # below the words of the tick
        self.with_data.setAccessibleDescription(more.text())
        self.buttons = DialogButtons(self, say("Choose where …"))
        box = column(self, margins=(20, 18, 20, 18), spacing=12)
        box.addWidget(Label(say("Report of {name}", name=name), "heading", wrap=True))
        text = say(
            "A zip with the run's numbers, its choices among settings, and versions. No rows, prompts, answers, names, "
            "folders or messages are in it."
        )
        box.addWidget(Label(text, wrap=True))
        box.addWidget(self.with_data)
        box.addWidget(more)
        box.addWidget(self.buttons)
        give_letters(self)
