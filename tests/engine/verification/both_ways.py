"""Models run over the same rows whole and layer by layer, which must give the same."""

from pathlib import Path
from typing import Any

import torch

from qlora_studio.engine.context import JobStopped, QuietReporter
from qlora_studio.engine.model.loading import load_plain
from qlora_studio.engine.verification.comparison import Batch, Comparison, batches_of, compare
from qlora_studio.engine.verification.measurement import Rows
from qlora_studio.engine.verification.passes import Pass, Passes
from qlora_studio.engine.verification.states import StatesStore
from tests.engine.families import VOCABULARY


def both_ways(item: Pass, flags: tuple[bool, ...] = (True,), *, has_plain_head: bool = True) -> list[Comparison]:
    """The comparison of a model with itself, with and without its adapter, loaded whole and streamed."""
    found = []
    for store in (None, StatesStore({"test": item.name})):
        told = Told()
        passes = Passes(batches(), told, store)
        measured = passes.run(item, flags=flags)
        assert told.warnings == [] and passes.is_streamed == (store is not None)
        models = {str(flag): outcome for flag, outcome in measured.outcomes.items()}
        assert all(outcome.head.is_plain == has_plain_head for outcome in models.values())
        found.append(compare(models, [("True", name) for name in models], batches(), rows=6))
    return found


class Told(QuietReporter):
    """Keeps what was told, and stops after so many layers."""

    def __init__(self, *, layers: int = 1000) -> None:
        self.warnings: list[str] = []
        self.layers: list[int] = []
        self._stop_after = layers

    def warn(self, kind: str, message: str) -> None:
        self.warnings.append(message)

    def progress(self, what: str, done: int, total: int, unit: str = "") -> None:
        self.layers.append(done)

    def raise_if_stopped(self) -> None:
        if len(self.layers) >= self._stop_after:
            raise JobStopped


def some_rows() -> Rows:
    """Rows of several lengths, two of them of one; the first tokens of each are not trained."""
    torch.manual_seed(3)
    rows = [torch.randint(5, VOCABULARY - 20, (length,)).tolist() for length in (17, 40, 9, 12, 12)]
    return Rows(tuple((tuple(ids), (-100,) * 4 + tuple(ids[4:])) for ids in rows))


def batches() -> list[Batch]:
    return batches_of([list(range(3, 19))], some_rows())


def plain(folder: Path) -> Pass:
    def load() -> Any:
        return load_plain(folder, dtype=torch.float32, device="cpu")

    return Pass("plain", load, load, "cpu")
