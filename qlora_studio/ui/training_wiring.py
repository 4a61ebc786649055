"""Connects the Training page to the draft, the presets, the dataset's figures, and the start of a run."""

from PySide6.QtCore import QObject

from qlora_studio.core.data_report import DataReport
from qlora_studio.core.events import Event, Reported
from qlora_studio.core.problem import Problem
from qlora_studio.core.run_config import RunConfig
from qlora_studio.core.run_config_text import problems_before_start
from qlora_studio.storage.presets import load_preset, presets
from qlora_studio.ui.data_view import is_of
from qlora_studio.ui.main_window import MainWindow
from qlora_studio.ui.rail import StepState
from qlora_studio.ui.studio import Studio
from qlora_studio.ui.training_page import PresetLine, TrainingPage


class TrainingWiring(QObject):
    """The Training page with what stands behind it."""

    def __init__(self, studio: Studio, window: MainWindow, page: TrainingPage) -> None:
        super().__init__(window)
        self._studio, self._window, self._page = studio, window, page
        self._report: DataReport | None = None
        studio.draft.changed.connect(self._on_draft_changed)
        studio.draft.refused.connect(page.render_problems)
        studio.data.store.events_applied.connect(self._on_data_events)
        studio.runs.worked.connect(lambda: page.render_busy(bool(studio.runs.at_work())))
        page.setting_requested.connect(studio.draft.set_value)
        page.preset_requested.connect(self._on_preset_requested)
        page.start_requested.connect(self._on_start_requested)
        page.queue_requested.connect(self._on_queue_requested)
        page.render_presets([PresetLine(item.name, item.title, item.description) for item in presets()])
        page.render_config(studio.draft.config)

    def _on_draft_changed(self, config: RunConfig) -> None:
        if self._report is not None and not is_of(self._report, config):
            self._report = None
            self._page.render_dataset(None)
        self._page.render_config(config)

    def _on_data_events(self, events: tuple[Event, ...]) -> None:
        for event in events:
            if isinstance(event, Reported) and event.kind == "dataset":
                self._report = DataReport.model_validate(event.report)
                self._page.render_dataset(self._report if self._report.complete else None)

    def _on_preset_requested(self, name: str) -> None:
        """Take a preset. One with a dataset of its own is a whole project; else model, data and name stay as chosen."""
        draft, preset = self._studio.draft.config, load_preset(name)
        kept: dict[str, object] = {}
        if not preset.data.path:
            kept = {"data": draft.data, "name": draft.name}
            kept |= {"model": draft.model} if draft.model.source else {}
        self._studio.draft.replace(preset.model_copy(update=kept))

    def _on_start_requested(self) -> None:
        if self._is_ready() and self._studio.start_draft():
            self._window.show_page("run")

    def _on_queue_requested(self) -> None:
        if self._is_ready() and self._studio.queue_draft():
            self._window.show_page("runs")

    def _is_ready(self) -> bool:
        config = self._studio.draft.config
        problems = [*problems_before_start(config), *self._refusals(config)]
        self._page.render_problems(problems)
        self._window.set_step("training", StepState.PROBLEM if problems else StepState.DONE)
        return not problems

    def _refusals(self, config: RunConfig) -> list[Problem]:
        """What the files and rows have shown to be wrong already."""
        found, problems = self._studio.estimates.found, []
        if config.model.source and found is not None and found.facts is None:
            problems.append(Problem("model.source", "Download the model on the Model page first."))
        if self._report is not None and self._report.refused:
            problems.append(Problem("data.path", self._report.refused))
        return problems
