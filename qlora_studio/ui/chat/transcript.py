"""A chat as it is written: a question with its answers beside each other, and the field for the next prompt."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QPlainTextEdit, QWidget

from qlora_studio.core.run.job import ANSWER_WAYS, CHAT_VARIANTS
from qlora_studio.core.words import say
from qlora_studio.ui.kit.layouts import TileGrid
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Card, column

_LEAST_WIDTH = 230  # of an answer


class AnswerCard(Card):
    """An answer that grows."""

    def __init__(self, variant: str) -> None:
        super().__init__(CHAT_VARIANTS.get(variant, variant))
        self._text = ""
        self.label = Label("…", wrap=True, selectable=True)
        self.label.setAccessibleName(say("Answer of the {variant} model", variant=variant))
        self._facts = Label("", "caption")
        self.add_header(self._facts)
        self.add(self.label)
        self.body.addStretch(1)
        self._way = Label("", "caption", wrap=True)
        self._way.hide()
        self.add(self._way)

    def append(self, text: str) -> None:
        """Add a piece."""
        self._text += text
        self.label.setText(self._text or "…")

    def finish(self, tokens: int, seconds: float, way: str) -> None:
        """Say how long it was, how fast it came, and how it was computed where that is not as usual."""
        facts = [say("{tokens:,} tokens", tokens=tokens)]
        facts += [say("{rate:.1f} tokens/s", rate=tokens / seconds)] if seconds > 0 and tokens else []
        self._facts.setText(" · ".join(facts))
        self._way.setText(ANSWER_WAYS.get(way, way))
        self._way.setVisible(bool(way))
        self.label.setText(self._text.strip() or say("(an empty answer)"))

    def give_up(self) -> None:
        """Say that no more of it will come."""
        self.label.setText(say("{text}\n(it ends here)", text=self._text) if self._text else say("(no answer)"))

    def text(self) -> str:
        """Return the answer so far."""
        return self._text


class ChatTurn(QWidget):
    """A prompt above its answers."""

    def __init__(self, prompt: str, variants: tuple[str, ...]) -> None:
        super().__init__()
        self.prompt = prompt
        self.answers = {variant: AnswerCard(variant) for variant in variants}
        box = column(self, margins=(0, 4, 0, 8), spacing=8)
        box.addWidget(Label(prompt, "strong", wrap=True, selectable=True))
        columns = [number for number in (1, 2, len(variants)) if number <= len(variants)]
        box.addWidget(TileGrid(tuple(self.answers.values()), columns=columns, least=_LEAST_WIDTH))

    def messages(self, variant: str) -> list[dict[str, str]]:
        """Return the turn as messages, the answer as this variant gave it."""
        answer = self.answers.get(variant)
        turn = [{"role": "user", "content": self.prompt}]
        return [*turn, {"role": "assistant", "content": answer.text().strip()}] if answer and answer.text() else []


class PromptField(QPlainTextEdit):
    """A text of a few lines.

    Signals:
        submitted: Enter was pressed.
    """

    submitted = Signal()

    def __init__(self, placeholder: str) -> None:
        super().__init__()
        self.setPlaceholderText(placeholder)
        self.setAccessibleName(say("Prompt"))
        self.setTabChangesFocus(True)
        self.setFixedHeight(72)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Send on Enter."""
        plain = not event.modifiers() & Qt.KeyboardModifier.ShiftModifier
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and plain:
            self.submitted.emit()
        else:
            super().keyPressEvent(event)

    def text(self) -> str:
        """Return the text without the blanks around it."""
        return self.toPlainText().strip()
