"""Takes what was dropped, pasted or chosen to where it belongs, and answers in words what belongs nowhere."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QObject

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.foreign import read_toml
from qlora_studio.storage.presets import with_resources
from qlora_studio.ui.state.arrival import Arrivals, sorted_arrivals
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.main_window import MainWindow


@dataclass(frozen=True)
class Places:
    """Who takes what: a model's source with its revision, datasets all at once, a run's folder, and a packed run."""

    model: Callable[[str, str], object]
    datasets: Callable[[list[str]], object]
    run: Callable[[str], object]
    pack: Callable[[str], object]


class ArrivalControl(QObject):
    """Looks at what arrived beside the event loop, and hands it on."""

    def __init__(self, studio: Studio, window: MainWindow, places: Places) -> None:
        super().__init__(window)
        self._studio, self._window, self._places = studio, window, places
        self._sorting = Background(self)
        self._sorting.answered.connect(self._on_sorted)
        window.drops.arrived.connect(self.take)

    def take(self, texts: list[str]) -> None:
        """Take paths and links."""
        self._sorting.ask(sorted_arrivals, texts)

    def _on_sorted(self, found: Arrivals) -> None:
        unknown = list(found.unknown)
        for path in found.configs[:1]:
            self._take_config(Path(path), unknown)
        for source in found.models[:1]:
            self._places.model(source, "")
            self._window.show_page("model")
        if found.datasets:
            self._window.show_page("data")
            self._places.datasets(found.datasets)
        for folder in found.runs[:1]:
            self._places.run(folder)
        for pack in found.packs[:1]:
            self._window.show_page("runs")
            self._places.pack(pack)
        one_each = {
            say("model"): found.models,
            say("run"): found.runs,
            "run.toml": found.configs,
            say("packed run"): found.packs,
        }
        for what, items in one_each.items():
            unknown += [
                say("{name} was left out: one {what} can be opened at a time.", name=Path(item).name, what=what)
                for item in items[1:]
            ]
        if unknown:
            self._window.current_page().show_error(_error_of(unknown, found.advice))

    def _take_config(self, path: Path, unknown: list[str]) -> None:
        """Offer a file's settings for the next run."""
        try:
            config = with_resources(from_mapping(read_toml(path)))
        except (StudioError, OSError) as error:
            unknown.append(f"{path.name}: {error}")
            return
        self._studio.draft.propose(say("“{file}”", file=path.name), config)


def _error_of(unknown: list[str], advice: str) -> StudioError:
    return StudioError(" ".join(unknown), kind=FailureKind.NOT_READABLE, advice=advice)
