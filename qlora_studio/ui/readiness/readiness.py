"""Keeps where the steps stand true to everything that they depend on."""

import os

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.core.errors import Problem
from qlora_studio.core.memory.fit import FitVerdict
from qlora_studio.jobs.card_choice import count_together
from qlora_studio.ui.readiness.data_check import DataCheck
from qlora_studio.ui.readiness.steps import Situation, Step, elsewhere_problems, start_problems, steps
from qlora_studio.ui.state.studio import Studio


class Readiness(QObject):
    """Gathers the situation from the stores, anew whenever one of them changed.

    Signals:
        changed: a step stands elsewhere, or for another reason.
    """

    changed = Signal()

    def __init__(self, studio: Studio, check: DataCheck, parent: QObject) -> None:
        super().__init__(parent)
        self._studio, self._check = studio, check
        self._full: tuple[str, ...] = ()
        self.steps: dict[str, Step] = {}
        self._soon = QTimer(self)  # once for however much changes in one turn of the event loop
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._look)
        studio.draft.changed.connect(self._look_soon)
        studio.draft.refused.connect(self._look_soon)
        studio.estimates.model_asked.connect(self._look_soon)
        studio.estimates.model_found.connect(self._look_soon)
        studio.estimates.model_missing.connect(self._look_soon)
        studio.estimates.estimated.connect(self._look_soon)
        check.changed.connect(self._look_soon)
        check.progressed.connect(self._look_soon)
        studio.runs.changed.connect(self._look_soon)
        self._look()

    def problems(self) -> tuple[Problem, ...]:
        """Return everything that keeps the draft from being started."""
        return start_problems(self._situation())

    def elsewhere_problems(self) -> tuple[Problem, ...]:
        """Return everything that keeps the draft from being started on another computer."""
        return elsewhere_problems(self._situation())

    def take_full_drives(self, full: tuple[str, ...]) -> None:
        """Take which drives have no room for the draft, in sentences."""
        self._full = full
        self._look_soon()

    def _situation(self) -> Situation:
        studio, found, failure = self._studio, self._studio.estimates.found, self._check.failure
        missing, shown, fit = studio.estimates.missing, studio.runs.shown, studio.estimates.fit
        return Situation(
            config=studio.draft.config,
            model_here=None if found is None else found.facts is not None,
            model_problem=f"{missing.message} {missing.advice}".strip() if missing is not None else "",
            report=self._check.tokens,
            reading=self._check.reading,
            data_problem=f"{failure.message} {failure.advice}".strip() if failure is not None else "",
            too_large=-fit.spare_bytes if fit is not None and fit.verdict is FitVerdict.NO else 0,
            refused=studio.draft.refused_values(),
            full=self._full,
            cards=count_together(studio.draft.config.hardware.gpus, studio.gpu.cards, os.environ),
            run=shown.store.state if shown is not None else None,
        )

    def _look_soon(self) -> None:
        self._soon.start()

    def _look(self) -> None:
        found = steps(self._situation())
        if found != self.steps:
            self.steps = found
            self.changed.emit()
