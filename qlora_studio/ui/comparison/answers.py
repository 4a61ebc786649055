"""The answers of runs to the same prompt, beside each other."""

from collections.abc import Sequence

from PySide6.QtWidgets import QVBoxLayout, QWidget

from qlora_studio.core.comparison.comparison import ComparedAnswers
from qlora_studio.core.words import say
from qlora_studio.ui.kit.fields import ComboBox
from qlora_studio.ui.kit.layouts import TileGrid, dismiss
from qlora_studio.ui.kit.text import ElidedLabel, Label
from qlora_studio.ui.kit.widgets import Card, column

_LEAST_WIDTH = 230  # of an answer
_NONE = say(
    "No prompt was answered by two of these runs. Give them the same sample prompts: Training, "
    "Measuring on the way, Advanced."
)


class AnswersCard(Card):
    """Shows the answers to one prompt; where there are several, it is chosen above."""

    def __init__(self) -> None:
        super().__init__(say("Answers to the same prompts"))
        self._names: tuple[str, ...] = ()
        self._answers: tuple[ComparedAnswers, ...] = ()
        self.prompts = ComboBox()
        self.prompts.setAccessibleName(say("Prompt"))
        self.prompts.setMaximumWidth(420)
        self.prompts.chosen.connect(lambda _index: self._show_chosen())
        self.add_header(self.prompts)
        self._prompt = Label("", "strong", wrap=True, selectable=True)
        self._none = Label(_NONE, "muted", wrap=True)
        self.add(self._prompt, self._none)
        self._tiles: QWidget | None = None
        self._place = QVBoxLayout()
        self.body.addLayout(self._place)
        self.body.addStretch(1)
        self.show_answers((), ())

    def show_answers(self, names: Sequence[str], answers: Sequence[ComparedAnswers]) -> None:
        """Show the answers of the runs of these names."""
        if (tuple(names), tuple(answers)) == (self._names, self._answers) and answers:
            return
        before = self.prompts.currentText()
        self._names, self._answers = tuple(names), tuple(answers)
        self.prompts.set_choices({str(index): " ".join(item.prompt.split()) for index, item in enumerate(answers)})
        self.prompts.setCurrentIndex(max(0, self.prompts.findText(before)))
        self.prompts.setVisible(len(answers) > 1)
        self._none.setVisible(not answers)
        self._show_chosen()

    def _show_chosen(self) -> None:
        chosen = self.prompts.value()
        if self._tiles is not None:
            dismiss(self._tiles)
            self._tiles = None
        item = self._answers[int(chosen)] if chosen else None
        self._prompt.setText(item.prompt if item else "")
        self._prompt.setVisible(item is not None)
        if item is None:
            return
        tiles = [_tile(name, told) for name, told in zip(self._names, item.answers, strict=True)]
        self._tiles = TileGrid(tiles, columns=range(1, min(len(tiles), 4) + 1), least=_LEAST_WIDTH)
        self._place.addWidget(self._tiles)


def _tile(name: str, told: tuple[int, str] | None) -> QWidget:
    tile = QWidget()
    box = column(tile, margins=(0, 6, 0, 6), spacing=3)
    box.addWidget(ElidedLabel(name, "title"))
    box.addWidget(Label(say("after step {told:,}", told=told[0]) if told else say("not asked"), "caption"))
    answer = Label((told[1].strip() or say("(an empty answer)")) if told else "–", wrap=True, selectable=True)
    answer.setAccessibleName(say("Answer of {name}", name=name))
    box.addWidget(answer)
    box.addStretch(1)
    return tile
