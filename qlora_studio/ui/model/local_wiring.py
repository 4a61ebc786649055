"""Connects the line of models that are on this computer to the disk; headers are read once somebody asks for them."""

from collections.abc import Callable
from dataclasses import replace

from PySide6.QtCore import QObject

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fit import judge
from qlora_studio.core.memory.gpu_catalogue import find_gpu
from qlora_studio.storage.models.local_models import LocalModel, local_models
from qlora_studio.storage.models.location import ModelFacts, locate_model, model_facts
from qlora_studio.ui.model.local import LocalModels
from qlora_studio.ui.model.local_view import LocalLine
from qlora_studio.ui.state.background import Background

_Known = dict[LocalModel, ModelFacts | StudioError]


class LocalWiring(QObject):
    """Looks which models there are, and what a run on each would take.

    `question` gives the run's config, the card's name, and what a run can have of it; empty and 0 where there is none.
    """

    def __init__(self, card: LocalModels, question: Callable[[], tuple[RunConfig, str, int]]) -> None:
        super().__init__(card)
        self._card, self._question = card, question
        self._models: tuple[LocalModel, ...] = ()
        self._known: _Known = {}
        self._finder, self._judge = Background(self), Background(self)
        self._finder.answered.connect(self._on_found)
        self._judge.answered.connect(card.render_lines)
        card.opened.connect(self.judge)
        self.look()

    def look(self) -> None:
        """Look again which there are."""
        self._finder.ask(local_models)

    def judge(self) -> None:
        """Say what each takes, while the list is unfolded."""
        if self._card.show_button.isChecked():
            self._judge.ask(_judged, self._models, self._known, *self._question())

    def _on_found(self, models: tuple[LocalModel, ...]) -> None:
        if models != self._models:
            self._models = models
            self._card.render_models(models)
            self._card.render_lines([LocalLine(model) for model in models])
        self.judge()


def _judged(
    models: tuple[LocalModel, ...], known: _Known, config: RunConfig, gpu: str, free: int
) -> tuple[LocalLine, ...]:
    return tuple(_line(model, _facts(model, known), config, gpu, free) for model in models)


def _facts(model: LocalModel, known: _Known) -> ModelFacts | StudioError:
    """Return what the files say, or why they are refused; they are looked at once."""
    if model not in known:
        try:
            known[model] = model_facts(locate_model(model.source))
        except StudioError as error:
            known[model] = error
        except OSError as error:
            return StudioError(str(error))
    return known[model]


def _line(model: LocalModel, facts: ModelFacts | StudioError, config: RunConfig, gpu: str, free: int) -> LocalLine:
    if isinstance(facts, StudioError):
        return LocalLine(model, refused=facts.message)
    bits = 8 * model.size_bytes / facts.parameters if facts.stored_dtype == "GGUF" and facts.parameters else None
    line = LocalLine(model, bits=bits)
    if facts.shape is None:
        return line
    found = estimate(config, facts.shape, gpu=find_gpu(gpu))
    return replace(line, needed_bytes=found.total_bytes, verdict=judge(found, free).verdict if gpu else None)
