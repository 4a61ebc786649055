"""What the Model page says of the models that other programs keep on this computer, as values. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from qlora_studio.core.memory.fit import FitVerdict
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say, say_count
from qlora_studio.storage.models.local_models import LocalModel
from qlora_studio.ui.model.view import VERDICT_TONES, VERDICT_WORDS


@dataclass(frozen=True)
class LocalLine:
    """A model that is here: what a run on it takes, and whether that fits the card; None where that is not known.

    `refused` says why its files cannot be trained. `bits` is of a weight as it is stored, in a GGUF.
    """

    model: LocalModel
    needed_bytes: int | None = None
    verdict: FitVerdict | None = None
    refused: str = ""
    bits: float | None = None

    @property
    def size(self) -> str:
        """What it takes of the disk."""
        return bytes_text(self.model.size_bytes)

    @property
    def needs(self) -> str:
        """The memory of a run."""
        return "–" if self.needed_bytes is None else bytes_text(self.needed_bytes)

    @property
    def fit(self) -> str:
        """Whether it fits, in a word."""
        if self.refused:
            return say("cannot be trained")
        return VERDICT_WORDS[self.verdict] if self.verdict else "–"

    @property
    def tone(self) -> str:
        """The colour of the word."""
        return VERDICT_TONES[self.verdict] if self.verdict and not self.refused else "muted"

    @property
    def remark(self) -> str:
        """What to know of it before it is taken."""
        if self.refused:
            return self.refused
        if self.bits is not None and self.bits < 15:
            return say(
                "A GGUF with {bits:.1f} bits a weight. It can be trained, from weights that were rounded: the original "
                "from the hub learns better where you can have it.",
                bits=self.bits,
            )
        return "" if self.model.source == self.model.name else self.model.source


def local_title(models: Sequence[LocalModel]) -> str:
    """Return how many models are here, in one line."""
    return say_count(len(models), "{count} model on this computer", "{count} models on this computer")


def local_places(models: Sequence[LocalModel]) -> str:
    """Return whose they are."""
    counts = Counter(model.keeper for model in models)
    return " · ".join(say("{keeper} {count}", keeper=keeper, count=count) for keeper, count in counts.items())
