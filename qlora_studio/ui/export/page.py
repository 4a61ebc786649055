"""The page that turns a trained run into files to use: what, where, one button, and the proof that they are right."""

from collections.abc import Iterator, Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.export.formats import parse_format
from qlora_studio.core.path_text import whole_path
from qlora_studio.core.run.events import Exported
from qlora_studio.core.run.job import ExportJob
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say
from qlora_studio.ui.export.format_line import FormatLine
from qlora_studio.ui.export.result import ExportResult
from qlora_studio.ui.export.view import (
    BASES,
    IMPORTANCE,
    drives_for,
    export_progress,
    kind_choices,
    planned_verification,
)
from qlora_studio.ui.kit.charts import ProgressLine
from qlora_studio.ui.kit.disk_lines import DiskLines
from qlora_studio.ui.kit.fields import ComboBox, PathField
from qlora_studio.ui.kit.layouts import SideBySide, dismiss
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.kit.widgets import Button, Card, EmptyCard, PrimaryButton, Rule, column, row
from qlora_studio.ui.state.run_choice import RunChoice
from qlora_studio.ui.state.run_line import PastExport
from qlora_studio.ui.window.page import GUTTER, Page

_CHECKPOINTS = {"best": say("Best by evaluation loss"), "final": say("Final adapter"), "last": say("Last checkpoint")}
_WEIGHED = say("A GGUF of few bits is rounded by what matters on your held-out rows. It takes one pass over them.")


class ExportPage(Page):
    """Choose a run and formats; export; see the result.

    Signals:
        run_requested: look at another run; its folder.
        export_requested: do this ExportJob.
        force_requested: do it although the base is another one than that of training; an ExportJob.
        stop_requested: stop the export.
        folder_requested: open a folder.
        training_requested: go and train something first.
        upload_requested: do this UploadJob.
        upload_stop_requested: stop the upload.
    """

    name = "export"
    title = say("Export")

    run_requested = Signal(str)
    export_requested = Signal(object)
    force_requested = Signal(object)
    stop_requested = Signal()
    folder_requested = Signal(str)
    training_requested = Signal()
    upload_requested = Signal(object)
    upload_stop_requested = Signal()

    def _made(self) -> Iterator[None]:
        self._runs: dict[str, RunChoice] = {}
        self._results: list[ExportResult] = []
        self.export_button = PrimaryButton(say("Merge && export"))
        self.add_action(self.export_button)
        self.force_button = Button(
            say("Export all the same …"), "small", tip=say("Keeps a record of it with the export")
        )
        self.notice.add_action(self.force_button)
        self.force_button.hide()
        self._empty, self._options = self._make_empty(), QWidget()
        self.body.addWidget(self._empty)
        self.body.addWidget(self._options)
        what, where = Card(say("What")), Card(say("From and to"))
        column(self._options, spacing=GUTTER).addWidget(SideBySide(what, where, shares=(7, 5)))
        yield
        yield from self._fill_what(what)
        yield from self._fill_from_and_to(where)
        self._progress_card = self._make_progress()
        self._results_box = column(spacing=GUTTER)
        self.body.addWidget(self._progress_card)
        self.body.addLayout(self._results_box)
        self.body.addStretch(1)
        yield
        self._connect()
        self.render_runs((), "")
        self.render_job(None)

    def render_runs(self, runs: Sequence[RunChoice], chosen: str) -> None:
        """Show the runs that can be exported, and the one that is chosen."""
        self._runs = {run.path: run for run in runs}
        before = self.run.value()
        self.run.set_choices({run.path: run.name for run in runs})
        self.run.set_value(chosen if chosen in self._runs else next(iter(self._runs), ""))
        if self.run.value() != before:
            self._forget_failure()
        self._empty.setVisible(not runs)
        self._options.setVisible(bool(runs))
        self._show_run()

    def render_job(self, state: RunState | None, *, stopping: bool = False) -> None:
        """Show how far an export is, and that it was asked to stop."""
        busy = state is not None and state.last_event > 0 and not state.phase.is_over
        self._progress_card.setVisible(busy)
        if busy and state is not None:
            words, share = export_progress(state)
            self._progress.setText(say("Stopping …") if stopping else words)
            self.stop.setEnabled(not stopping)
            self._progress_line.show_share(share)
            self._plan.setText(plan := planned_verification(state))
            self._plan.setVisible(bool(plan))
        if state is not None and state.failure is not None:
            self.notice.show_message(state.failure.message, state.failure.advice, state.failure.detail)
            self.force_button.setVisible(state.failure.kind == FailureKind.FINGERPRINT_MISMATCH)
        self._update()

    def chosen_run(self) -> RunChoice | None:
        """Return the run that would be exported."""
        return self._runs.get(self.run.value())

    def job(self) -> ExportJob | None:
        """Return what the user asks for, None where nothing is chosen."""
        run = self.chosen_run()
        formats = [item.text for line in self.lines.values() if (item := line.chosen())]
        if run is None or not formats:
            return None
        return ExportJob(
            run_dir=run.path,
            formats=formats,
            checkpoint=self.checkpoint.value() or "best",
            base="nf4" if self.base.value() == "nf4" else "original",
            out_dir=str(whole_path(place).absolute()) if (place := self.place.text()) else "",
            importance_matrix=self.importance.value() or "auto",
        )

    def render_results(self, exports: Sequence[PastExport]) -> None:
        """Show what exports left, newest first, each with its verification."""
        there = {_identity(item.exported) for item in exports}
        for card in [card for card in self._results if _identity(card.exported) not in there]:
            self._results.remove(card)
            dismiss(card)
        shown = {card.exported.path: card for card in self._results}
        run = self.chosen_run() or RunChoice(path="", name="my-model")
        for place, past in enumerate(exports):
            card = shown.get(past.exported.path) or self._new_result(past, run, place)
            card.show_report(past.report)

    def _new_result(self, past: PastExport, run: RunChoice, place: int) -> ExportResult:
        card = ExportResult(past.exported, _title(past.exported.format), run)
        card.folder_requested.connect(self.folder_requested)
        card.panel.upload_requested.connect(self.upload_requested)
        card.panel.stop_requested.connect(self.upload_stop_requested)
        self._results.insert(place, card)
        self._results_box.insertWidget(place, card)
        return card

    def render_upload(self, path: str, state: RunState, *, stopping: bool = False) -> None:
        """Show in an export's card how its upload goes."""
        for card in self._results:
            if card.exported.path == path:
                card.panel.render_job(state, stopping=stopping)

    def look_at_drives(self) -> None:
        """See whether there is room by now, or none any more."""
        self._update()

    def results(self) -> tuple[ExportResult, ...]:
        """Return the cards of the exports that are shown."""
        return tuple(self._results)

    def _show_run(self) -> None:
        run = self.chosen_run()
        choices = dict(_CHECKPOINTS)
        for step in run.checkpoints if run else ():
            choices[step] = say("Checkpoint {step}", step=step)
        before = self.checkpoint.value()
        self.checkpoint.set_choices(choices)
        self.checkpoint.set_value(before if before in choices else "best")
        for line, above in zip(self.lines.values(), self._rules, strict=True):
            line.show_run(run)
            for part in (line, above):
                part.setVisible(not line.format().traits.is_text_alone or bool(run and run.text_model))
        self._rules[0].hide()
        self._update()

    def _update(self) -> None:
        run, job = self.chosen_run(), self.job()
        subtitle = (
            f"{run.name} · {run.base}" if run and run.base else (run.name if run else say("Nothing to export yet"))
        )
        self.set_heading(say("Export"), subtitle)
        wanted = [item for line in self.lines.values() if (item := line.chosen())]
        self._advanced.setVisible(any(item.takes_importance("on") for item in wanted))
        found = drives_for(run, wanted, self.place.text()) if run else ()
        self._disk.show_drives(found)
        busy = self._progress_card.isVisibleTo(self)
        self.export_button.setEnabled(job is not None and not busy and all(drive.fits for drive in found))
        self.export_button.setText(
            say("Merge && export") if any(item.traits.is_merged for item in wanted) else say("Export")
        )

    def _fill_what(self, card: Card) -> Iterator[None]:
        card.body.setSpacing(0)
        self.lines: dict[str, FormatLine] = {}
        self._rules: list[Rule] = []
        for kind, formats in kind_choices().items():
            self.lines[kind] = FormatLine(formats)
            self._rules.append(Rule())
            card.add(self._rules[-1], self.lines[kind])
            yield
        next(iter(self.lines.values())).wanted.setChecked(True)
        card.body.addStretch(1)

    def _fill_from_and_to(self, card: Card) -> Iterator[None]:
        self.run, self.checkpoint, self.base = ComboBox(), ComboBox(_CHECKPOINTS), ComboBox(BASES)
        self.place = PathField(say("The run's own folder, under exports"), folder=True, caption=say("Where to"))
        help = say("Which is better is measured on your held-out rows, after every export; the choice is kept with it.")
        fields = (
            (say("Run"), self.run),
            (say("Checkpoint"), self.checkpoint),
            (say("Merged into"), self.base),
            (say("Where"), self.place),
        )
        for title, field in fields:
            label = Label(title, "muted")
            label.setBuddy(field)
            field.setAccessibleName(title)
            card.add(label, field)
            if field is self.base:
                card.add(Label(help, "caption", wrap=True))
        yield
        self._disk, self.importance = DiskLines(), ComboBox(IMPORTANCE)
        self._advanced = QWidget()
        box = column(self._advanced, spacing=4)
        for part in (Label(say("Importance matrix"), "muted"), self.importance, Label(_WEIGHED, "caption", wrap=True)):
            box.addWidget(part)
        self.importance.setAccessibleName(say("Importance matrix"))
        card.add(self._advanced, self._disk)
        card.body.addStretch(1)
        yield

    def _make_progress(self) -> Card:
        card = Card(say("Exporting"))
        self._progress, self._progress_line = Label("", "muted"), ProgressLine(say("Progress"), 4000)
        self.stop = Button(say("Stop"), "small")
        line = row(spacing=12)
        line.addWidget(self._progress, 1)
        line.addWidget(self.stop)
        card.body.addLayout(line)
        self._plan = Label("", "caption", wrap=True)
        card.add(self._progress_line, self._plan, Label(say("Nothing half-made is left if it is stopped."), "caption"))
        return card

    def _make_empty(self) -> EmptyCard:
        text = say(
            "When a run has ended, or was stopped and saved, its adapter can be merged into the base model here."
        )
        self.go_training = PrimaryButton(say("Go to Training"))
        return EmptyCard(say("No trained run yet"), text, self.go_training)

    def _connect(self) -> None:
        self.run.chosen.connect(self._on_run_chosen)
        self.base.chosen.connect(lambda _value: self._update())
        self.place.edited.connect(lambda _text: self._update())
        for line in self.lines.values():
            line.changed.connect(self._update)
        self.stop.clicked.connect(self.stop_requested)
        self.export_button.clicked.connect(self._on_export_clicked)
        self.force_button.clicked.connect(self._on_force_clicked)
        self.go_training.clicked.connect(self.training_requested)

    def _on_run_chosen(self, path: str) -> None:
        self._forget_failure()
        self._show_run()
        self.run_requested.emit(path)

    def _on_force_clicked(self) -> None:
        job = self.job()
        if job is not None:
            self.force_requested.emit(job.model_copy(update={"force": True}))

    def _forget_failure(self) -> None:
        """Say no more of an export that failed: what is chosen is another, or is tried again."""
        self.clear_error()
        self.force_button.hide()

    def _on_export_clicked(self) -> None:
        self._forget_failure()
        job = self.job()
        if job is not None:
            self.export_requested.emit(job)


def _identity(exported: Exported) -> tuple[str, str, int]:
    """What makes an export another one, in the place of the one before too."""
    return exported.path, exported.format, exported.size_bytes


def _title(text: str) -> str:
    try:
        return parse_format(text).title
    except StudioError:
        return text
