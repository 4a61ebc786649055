"""Connects the Training page to the draft, the presets, the dataset's figures, and the start of a run."""

from collections.abc import Sequence

from PySide6.QtCore import QObject, Signal

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import Problem
from qlora_studio.core.export.disk_need import run_needs
from qlora_studio.core.words import say
from qlora_studio.storage.drive_space import DriveSpace, Writing, drives
from qlora_studio.storage.presets import presets
from qlora_studio.storage.settings import cache_path
from qlora_studio.ui.kit.disk_lines import what_to_free
from qlora_studio.ui.readiness.data_check import DataCheck
from qlora_studio.ui.readiness.readiness import Readiness
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.training.page import PresetLine, TrainingPage
from qlora_studio.ui.training.view import preset_of, with_preset
from qlora_studio.ui.window.main_window import MainWindow


class TrainingWiring(QObject):
    """The Training page with what stands behind it.

    Signals:
        elsewhere_requested: the draft is right, and is to be trained on another computer.
    """

    elsewhere_requested = Signal()

    def __init__(
        self, studio: Studio, window: MainWindow, page: TrainingPage, check: DataCheck, readiness: Readiness
    ) -> None:
        super().__init__(window)
        self._studio, self._window, self._page, self._check = studio, window, page, check
        self._readiness = readiness
        self._disks = Background(self)
        self._disks.answered.connect(self._on_disks_answered)
        studio.estimates.estimated.connect(self._on_estimated)
        studio.settings_changed.connect(self._look_at_disks)
        studio.disk.looked.connect(self._look_at_disks)
        studio.draft.changed.connect(self._on_draft_changed)
        studio.draft.offered.connect(self._on_offered)
        studio.draft.refused.connect(page.render_problems)
        check.changed.connect(self._on_check_changed)
        readiness.changed.connect(self._on_readiness_changed)
        studio.runs.worked.connect(self._on_runs_worked)
        page.form.changed.connect(studio.draft.set_value)
        page.preset_requested.connect(self._on_preset_requested)
        page.takeover.taken.connect(studio.draft.take_offer)
        page.takeover.undone.connect(studio.draft.undo)
        page.takeover.closed.connect(studio.draft.forget_offer)
        page.start_requested.connect(self._on_start_requested)
        page.queue_requested.connect(self._on_queue_requested)
        page.elsewhere_requested.connect(self._on_elsewhere_requested)
        self._preset = ""  # that was chosen last
        self._presets = {preset.name: preset.config for preset in presets()}
        page.render_presets([PresetLine(item.name, item.title, item.description) for item in presets()])
        self._on_draft_changed(studio.draft.config)

    def _on_estimated(self) -> None:
        self._page.render_rate(self._studio.estimates.rate)
        self._look_at_disks()

    def _on_check_changed(self) -> None:
        self._page.render_dataset(self._check.tokens, reading=self._check.reading)
        self._look_at_disks()

    def _on_runs_worked(self) -> None:
        self._page.render_busy(bool(self._studio.runs.at_work()))

    def _on_readiness_changed(self) -> None:
        self._page.render_step(self._readiness.steps["training"])
        self._render_still_wrong()

    def _look_at_disks(self) -> None:
        """Sum up what the draft would write, and look at the drives, beside the event loop."""
        found, config = self._studio.estimates.found, self._studio.draft.config
        shape = found.facts.shape if found is not None and found.facts is not None else None
        if found is None or shape is None:
            self._disks.forget()
            self._on_disks_answered(())
            return
        report = self._check.tokens
        tokens = report.lengths.tokens_per_epoch if report is not None and report.lengths is not None else 0
        needs = run_needs(config, shape, convert=found.location.kind == "gguf", tokens=tokens)
        places = {"run": self._studio.settings.runs_path, "cache": cache_path()}
        self._disks.ask(drives, [Writing(places[need.place], need.what, need.size) for need in needs])

    def _on_disks_answered(self, found: tuple[DriveSpace, ...]) -> None:
        self._page.render_drives(found)
        self._readiness.take_full_drives(
            tuple(
                say(
                    "The drive {name} has no room for this run. {what_to_free}",
                    name=drive.name,
                    what_to_free=what_to_free(drive),
                )
                for drive in found
                if not drive.fits
            )
        )

    def _on_draft_changed(self, config: RunConfig) -> None:
        self._page.render_rate(self._studio.estimates.rate)
        if not self._studio.draft.refused_values():  # also where a whole config came: taken, undone, done again
            self._page.form.forget_refused()
        self._page.render_config(config)
        self._page.render_preset(preset_of(config, self._presets, self._preset))
        self._render_takeover()
        self._render_still_wrong()

    def _render_still_wrong(self) -> None:
        self._page.render_still_wrong(self._readiness.problems())

    def _on_offered(self) -> None:
        """Bring what is offered before the user, from wherever it came."""
        self._render_takeover()
        if self._studio.draft.offer is not None:
            self._window.show_page(self._page.name)
            self._page.focus_on(self._page.takeover.answer())

    def _render_takeover(self) -> None:
        self._page.render_takeover(self._studio.draft.offer, self._studio.draft.taken)

    def _on_preset_requested(self, name: str) -> None:
        """Say what a preset would change; the box names it once it is so."""
        draft, self._preset = self._studio.draft, name
        self._page.render_preset(preset_of(draft.config, self._presets, name))
        if name:
            preset = next(preset for preset in presets() if preset.name == name)
            draft.propose(f"“{preset.title}”", with_preset(draft.config, preset.config), preset.description)

    def _on_start_requested(self) -> None:
        if self._is_ready() and self._studio.start_draft():
            self._window.show_page("run")

    def _on_queue_requested(self) -> None:
        if self._is_ready() and self._studio.queue_draft():
            self._window.show_page("runs")

    def _on_elsewhere_requested(self) -> None:
        if self._shows_none(self._readiness.elsewhere_problems()):
            self.elsewhere_requested.emit()

    def _is_ready(self) -> bool:
        return self._shows_none(self._readiness.problems())

    def _shows_none(self, problems: Sequence[Problem]) -> bool:
        self._page.render_problems(problems)
        return not problems
