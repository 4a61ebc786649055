"""Connects the Training page to the draft, the presets, the dataset's figures, and the start of a run."""

from PySide6.QtCore import QObject

from qlora_studio.core.data.report import DataReport
from qlora_studio.core.errors import Problem
from qlora_studio.core.export.disk_need import run_needs
from qlora_studio.core.run.events import Event
from qlora_studio.core.run.reports import DatasetReported
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.core.run.run_config_text import problems_before_start
from qlora_studio.storage.presets import load_preset, presets
from qlora_studio.storage.runs.drive_space import DriveSpace, Writing, drives
from qlora_studio.storage.settings import cache_path
from qlora_studio.ui.kit.disk_lines import what_to_free
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.draft import is_report_of
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.training.page import PresetLine, TrainingPage
from qlora_studio.ui.window.main_window import MainWindow
from qlora_studio.ui.window.rail import StepState


class TrainingWiring(QObject):
    """The Training page with what stands behind it."""

    def __init__(self, studio: Studio, window: MainWindow, page: TrainingPage) -> None:
        super().__init__(window)
        self._studio, self._window, self._page = studio, window, page
        self._report: DataReport | None = None
        self._drives: tuple[DriveSpace, ...] = ()
        self._disks = Background(self)
        self._disks.answered.connect(self._on_disks_answered)
        studio.estimates.estimated.connect(lambda _estimate, _why: self._on_estimated())
        studio.draft.changed.connect(self._on_draft_changed)
        studio.draft.refused.connect(page.render_problems)
        studio.data.store.events_applied.connect(self._on_data_events)
        studio.runs.worked.connect(lambda: page.render_busy(bool(studio.runs.at_work())))
        page.form.changed.connect(studio.draft.set_value)
        page.preset_requested.connect(self._on_preset_requested)
        page.start_requested.connect(self._on_start_requested)
        page.queue_requested.connect(self._on_queue_requested)
        page.render_presets([PresetLine(item.name, item.title, item.description) for item in presets()])
        page.render_config(studio.draft.config)

    def _on_draft_changed(self, config: RunConfig) -> None:
        if self._report is not None and not is_report_of(self._report, config):
            self._report = None
            self._page.render_dataset(None)
        self._page.render_config(config)

    def _on_estimated(self) -> None:
        self._page.render_rate(self._studio.estimates.rate)
        self._look_at_disks()

    def _on_data_events(self, events: tuple[Event, ...]) -> None:
        for event in events:
            if isinstance(event, DatasetReported):
                self._report = event.report
                self._page.render_dataset(self._report if self._report.complete else None)
                self._look_at_disks()

    def _look_at_disks(self) -> None:
        """Sum up what the draft would write, and look at the drives, beside the event loop."""
        found, config = self._studio.estimates.found, self._studio.draft.config
        shape = found.facts.shape if found is not None and found.facts is not None else None
        if found is None or shape is None:
            self._disks.forget()
            self._on_disks_answered(())
            return
        lengths = self._report.lengths if self._report is not None else None
        tokens = lengths.tokens_per_epoch if lengths is not None else 0
        needs = run_needs(config, shape, convert=found.location.kind == "gguf", tokens=tokens)
        places = {"run": self._studio.settings.runs_path, "cache": cache_path()}
        self._disks.ask(drives, [Writing(places[need.place], need.what, need.size) for need in needs])

    def _on_disks_answered(self, found: tuple[DriveSpace, ...]) -> None:
        self._drives = found
        self._page.render_drives(found)

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
        full = (drive for drive in self._drives if not drive.fits)
        problems += [
            Problem("", f"The drive {drive.name} has no room for this run. {what_to_free(drive)}") for drive in full
        ]
        return problems
