"""One question and its answers beside each other, as they are written."""

from PySide6.QtWidgets import QWidget

from qlora_studio.ui.kit.plain_text import Label
from qlora_studio.ui.kit.tiles import TileGrid
from qlora_studio.ui.kit.widgets import Card, column

VARIANTS = {"tuned": "Tuned", "base": "Base", "merged": "Merged", "gguf": "GGUF"}
_LEAST_WIDTH = 230  # of an answer


class AnswerCard(Card):
    """An answer that grows."""

    def __init__(self, variant: str) -> None:
        super().__init__(VARIANTS.get(variant, variant))
        self._text = ""
        self.label = Label("…", wrap=True, selectable=True)
        self.label.setAccessibleName(f"Answer of the {variant} model")
        self._facts = Label("", "caption")
        self.add_header(self._facts)
        self.add(self.label)
        self.body.addStretch(1)

    def append(self, text: str) -> None:
        """Add a piece."""
        self._text += text
        self.label.setText(self._text or "…")

    def finish(self, tokens: int, seconds: float) -> None:
        """Say how long it was and how fast it came."""
        rate = f" · {tokens / seconds:.1f} tokens/s" if seconds > 0 and tokens else ""
        self._facts.setText(f"{tokens:,} tokens{rate}")
        self.label.setText(self._text.strip() or "(an empty answer)")

    def text(self) -> str:
        """Return the answer so far."""
        return self._text


class Exchange(QWidget):
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
