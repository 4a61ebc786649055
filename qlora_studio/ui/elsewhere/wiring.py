"""Connects the dialog to the draft, to the places that are kept, and to what is asked of a place."""

import functools
import threading

from PySide6.QtCore import QObject, QTimer

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.elsewhere.place import Place, place_from
from qlora_studio.core.errors import FailureKind, InvalidRunConfig, StudioError
from qlora_studio.core.words import say
from qlora_studio.jobs.elsewhere.place_check import PlaceReport, check_place
from qlora_studio.jobs.elsewhere.sending import Sending, plan_sending
from qlora_studio.storage.network import is_offline
from qlora_studio.storage.places import load_places, remove_place, save_place
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.elsewhere.dialog import ElsewhereDialog
from qlora_studio.ui.elsewhere.transfer import Transfer
from qlora_studio.ui.elsewhere.view import fit_words, leaving_facts, place_checks, sending_text
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.studio import Studio
from qlora_studio.ui.window.main_window import MainWindow

_SETTLE_MILLISECONDS = 250


class ElsewhereWiring(QObject):
    """Opens the dialog for the draft, and sends the run. The place that was used last stands there first."""

    def __init__(self, studio: Studio, window: MainWindow) -> None:
        super().__init__(window)
        self._studio, self._window = studio, window
        self.dialog: ElsewhereDialog | None = None
        self._config = RunConfig()
        self._last = ""
        self._asked: Place | None = None
        self._test_stop = threading.Event()
        self._sending: Sending | None = None
        self._transfer: Transfer | None = None
        self._planner, self._tester = Background(self), Background(self)
        self._planner.answered.connect(self._on_planned)
        self._planner.failed.connect(self._show_error)
        self._tester.answered.connect(self._on_tested)
        self._tester.failed.connect(self._on_test_failed)
        studio.estimates.estimated.connect(self._render_fit)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(_SETTLE_MILLISECONDS)
        self._settle.timeout.connect(self._plan)

    def open(self) -> None:
        """Ask where the draft is to be trained."""
        self._config = self._studio.draft.config
        dialog = self.dialog = ElsewhereDialog(self._config.name, self._window)
        dialog.place_chosen.connect(self._on_place_chosen)
        dialog.removal_requested.connect(self._on_removal_requested)
        dialog.place_changed.connect(self._on_place_changed)
        dialog.test_requested.connect(self._on_test_requested)
        dialog.test_stop_requested.connect(self._on_test_stopped)
        dialog.trust_changed.connect(self._plan)
        dialog.submit_requested.connect(self._on_submit_requested)
        dialog.cancel_requested.connect(self._on_cancel_requested)
        dialog.destroyed.connect(self._on_dialog_destroyed)
        self._render_fit()
        self._show_places(self._last)
        dialog.open()
        dialog.form.fields["host"].setFocus()

    def _render_fit(self) -> None:
        if self.dialog is not None:
            fit, assumed = self._studio.estimates.fit, self._studio.settings.assumed_gpu
            self.dialog.render_fit(*fit_words(fit.verdict if fit is not None else None, assumed))

    def _show_places(self, wanted: str) -> None:
        """Show the places that are kept; the one that is wanted, else the first, else what a new one begins with."""
        dialog = self.dialog
        assert dialog is not None
        try:
            places = {place.name: place for place in load_places()}
        except StudioError as error:
            dialog.show_error(error)
            places = {}
        chosen = wanted if wanted in places else next(iter(places), "")
        dialog.render_places({name: name for name in places}, chosen)
        dialog.form.show_place(places.get(chosen))
        self._on_place_changed()

    def _on_place_chosen(self, name: str) -> None:
        if self.dialog is not None:
            place = next((place for place in load_places() if place.name == name), None)
            self.dialog.render_chosen(name)
            self.dialog.form.show_place(place)
            self._on_place_changed()

    def _on_removal_requested(self, name: str) -> None:
        try:
            remove_place(name)
        except StudioError as error:
            self._show_error(error)
            return
        self._show_places("")

    def _on_place_changed(self) -> None:
        """What was found at another place says nothing of this one."""
        if self.dialog is not None:
            self._on_test_stopped()
            self._sending = None
            self.dialog.fill_submit(False)
            self.dialog.trust.setChecked(False)
            self._settle.start()

    def _place(self) -> Place | None:
        """Return the place that is written; None where something of it is not right, which the form says then."""
        assert self.dialog is not None
        try:
            place = place_from(self.dialog.form.values())
        except InvalidRunConfig as error:
            self.dialog.form.show_problems(error.problems)
            return None
        self.dialog.form.show_problems(())
        return place

    def _plan(self) -> None:
        if self.dialog is None:
            return
        values = self.dialog.form.values()
        if not values["name"]:
            self.dialog.render_sending((), [say("Name a host, and what would go there is said here.")], "")
        elif (place := self._place()) is not None:
            trusts = self.dialog.trust.isChecked() and place.nodes > 1
            self._planner.ask(functools.partial(plan_sending, trusts=trusts), self._config, place)

    def _on_planned(self, sending: Sending) -> None:
        if self.dialog is None:
            return
        self._sending = sending
        files = leaving_facts([(file.path.name, file.size) for file in sending.files])
        self.dialog.render_sending(files, sending.notes, sending.script)
        self.dialog.notice.clear()
        refusal = _refusal(sending.place)
        if refusal is not None:
            self.dialog.show_error(refusal)
        several = sending.place.nodes > 1
        self.dialog.render_trust(several, sending.trusts)
        self.dialog.fill_submit(refusal is None and (sending.trusts or not several))

    def _on_test_requested(self) -> None:
        if self.dialog is None or (place := self._place()) is None:
            return
        self.dialog.render_test(say("Asking {place} …", place=place.name), testing=True)
        self._asked, self._test_stop = place, threading.Event()
        self._tester.ask(check_place, place, self._test_stop)

    def _on_test_stopped(self) -> None:
        self._test_stop.set()
        self._tester.forget()
        if self.dialog is not None:
            self.dialog.render_test("")

    def _on_tested(self, report: PlaceReport) -> None:
        if self.dialog is not None and self._asked is not None:
            words = say("Ready for runs.") if report.is_well else say("Reached, but no run can go there yet.")
            self.dialog.render_test(words, place_checks(report, cards=self._asked.card_count))
            self._keep(self._asked)

    def _on_test_failed(self, error: StudioError) -> None:
        if self.dialog is not None:
            self.dialog.render_test(f"{error.message} {error.advice}".strip(), failed=True)

    def _keep(self, place: Place) -> None:
        """Keep a place: it answered, or a run goes there."""
        try:
            save_place(place)
        except StudioError as error:
            self._show_error(error)
            return
        self._last = place.name
        if self.dialog is not None:
            self.dialog.render_places({item.name: item.name for item in load_places()}, place.name)

    def _on_submit_requested(self) -> None:
        if self.dialog is None or self._sending is None:
            return
        self.dialog.notice.clear()
        self._keep(self._sending.place)
        self._transfer = Transfer(self._sending, self._studio.settings.runs_path, self)
        self._transfer.moved.connect(self._on_moved)
        self._transfer.sent.connect(self._on_sent)
        self._transfer.failed.connect(self._on_sending_failed)
        self._transfer.begin()

    def _on_moved(self, done: int, total: int) -> None:
        if self.dialog is not None:
            self.dialog.render_submitting(sending_text(done, total))

    def _on_sent(self, folder: RunFolder) -> None:
        self._transfer = None
        if self.dialog is not None:
            self.dialog.accept()
        if self._studio.runs.open(folder):
            self._window.show_page("run")

    def _on_sending_failed(self, error: StudioError) -> None:
        self._transfer = None
        if self.dialog is not None:
            self.dialog.render_submitting("")
        self._show_error(error)

    def _on_cancel_requested(self) -> None:
        """Stop what is being sent; where nothing is, go."""
        if self._transfer is not None:
            self._transfer.stop()
        elif self.dialog is not None:
            self.dialog.reject()

    def _on_dialog_destroyed(self) -> None:
        self.dialog = None
        self._settle.stop()
        self._planner.forget()
        self._on_test_stopped()

    def _show_error(self, error: StudioError) -> None:
        if self.dialog is not None:
            self.dialog.show_error(error)
        else:
            self._studio.failed.emit(error)


def _refusal(place: Place) -> StudioError | None:
    """Return why nothing can be sent to a place while the network is switched off."""
    if place.is_here or not is_offline():
        return None
    return StudioError(
        say("The network is switched off here, so nothing goes to {place}.", place=place.name),
        kind=FailureKind.OFFLINE,
        advice=say("Allow it on the Settings page: Offline."),
    )
