"""The program behind the window: settings, draft, runs, jobs, card. `app.py` connects it to the pages."""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import Stop
from qlora_studio.core.words import say
from qlora_studio.jobs.card_choice import card_environment
from qlora_studio.jobs.elsewhere.connection import give_up_all
from qlora_studio.jobs.gpu_sample import GpuCard
from qlora_studio.jobs.idle_worker import IdleWorker
from qlora_studio.storage.runs.leftovers import remove_leftovers, removed_text
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder, run_folders
from qlora_studio.storage.runs.trust import take_over_once
from qlora_studio.storage.runs.trusted_run import Question
from qlora_studio.storage.session import Session
from qlora_studio.storage.settings import Settings, cache_path, load_settings, save_settings
from qlora_studio.ui.state.background import Background
from qlora_studio.ui.state.disk_watch import DiskWatch
from qlora_studio.ui.state.draft import DraftStore
from qlora_studio.ui.state.estimates import EstimateControl
from qlora_studio.ui.state.gpu_store import GpuStore
from qlora_studio.ui.state.job_control import JobControl
from qlora_studio.ui.state.job_thread import wait_for_threads
from qlora_studio.ui.state.queue_control import QueueControl
from qlora_studio.ui.state.run_control import RunControl, RunSession
from qlora_studio.ui.state.session_keeper import SessionKeeper
from qlora_studio.ui.state.status import Status, job_status, run_status

_IDLE_MILLISECONDS = 10_000  # the window is first left to itself, and a worker that is to be another one is replaced


class Studio(QObject):
    """Everything that is not a widget, and nothing that trains.

    Signals:
        failed: something that was asked could not be done; carries a StudioError.
        settings_changed: the user's settings are others now.
        trusted: a run is trusted now that was not before.
    """

    failed = Signal(object)
    settings_changed = Signal(object)
    trusted = Signal()

    def __init__(self, settings: Settings, session: Session | None = None) -> None:
        super().__init__()
        self.settings = self._on_disk = settings
        self._last = session or Session()
        take_over_once(settings.runs_path)
        self.draft = DraftStore()
        self.idle = IdleWorker()
        self.runs = RunControl(self.idle)
        self.estimates = EstimateControl()
        self.gpu = GpuStore()
        self.data, self.export, self.chat, self.download = JobControl(), JobControl(), JobControl(), JobControl()
        self.upload = JobControl()
        self.queue = QueueControl(settings.runs_path, self._cards, self._cards_at_work)
        self.queue.started.connect(lambda folder: self.runs.open(folder))
        self.queue.failed.connect(self.failed)
        self._removed = ""  # what of interrupted work was removed at the start, in words
        self._tidying = Background(self)
        self._tidying.answered.connect(self._on_tidied)
        self._idle_clock = QTimer(self)
        self._idle_clock.setInterval(_IDLE_MILLISECONDS)
        self._idle_clock.timeout.connect(self.look_after_idle_worker)
        self._search = Background(self)
        self._search.answered.connect(self._on_search_answered)
        for part in (self.runs, self.data, self.export, self.chat, self.download, self.upload):
            part.failed.connect(self.failed)
        self.disk = DiskWatch(self)
        self.disk.settings_changed.connect(self._take_newest_settings)
        self.disk.model_changed.connect(self.estimates.look_again)
        self.disk.adapter_changed.connect(self.estimates.compute_again)
        self.settings_changed.connect(lambda settings: self.queue.look_after(settings.runs_path))
        self.draft.changed.connect(self.disk.take_config)
        self.draft.changed.connect(self.estimates.take_config)
        self.draft.changed.connect(lambda config: self.gpu.take_wish(config.hardware.gpus))
        self.runs.worked.connect(self._watch_worker)
        self.session = SessionKeeper(self, self._last)
        self.session.failed.connect(self.failed)

    @property
    def jobs_path(self) -> Path:
        """Where jobs without a run of their own work."""
        return cache_path() / "jobs"

    def begin(self) -> None:
        """Sample the card, take up the draft of last time, and find the runs that are at work."""
        self.session.follow(self.draft, self.runs, self.estimates, self.data.store)
        self._take_up_draft()
        self.gpu.start(self.draft.config.hardware.gpus)
        self._search.ask(_runs_to_show, self.settings.runs_path, self._last.run if self._last.page == "run" else "")
        self._tidying.ask(remove_leftovers, self.settings.runs_path)
        self.queue.begin()
        self.disk.look()
        if problem := f"{self.settings.problem} {self._last.problem}".strip():
            self.failed.emit(StudioError(problem, kind=FailureKind.DAMAGED))

    def keep_idle_worker(self) -> None:
        """Keep a worker waiting for the next run from now on, whenever nothing is at work."""
        self._idle_clock.start()

    def start_draft(self) -> bool:
        """Start the draft as a run; return whether that went well."""
        config = self.draft.config
        if not self.runs.start(config, self.settings.runs_path):
            return False
        self.change_settings(gpus=config.hardware.gpus)
        return True

    def queue_draft(self) -> bool:
        """Put the draft into the queue as a run of its own; return whether that went well."""
        estimate = self.estimates.estimate
        needed = estimate.total_bytes if estimate is not None else 0
        config, runs = self.draft.config, self.settings.runs_path
        return self.queue.add_new(lambda: create_run_folder(runs, config), needed) is not None

    def trust(self, folder: RunFolder, agrees: Callable[[tuple[str, ...]], bool]) -> None:
        """Trust a run where the user agrees to what it would do, line by line."""
        try:
            question = Question(folder)
            if agrees(question.lines):
                question.accept()
                self.runs.look_at_trust(folder)
                self.trusted.emit()
        except StudioError as error:
            self.failed.emit(error)

    def change_settings(self, **values: object) -> None:
        """Change settings and save them; what somebody else changed of the others since stays so."""
        self.settings = Settings.model_validate(self._newest_settings().model_dump() | values)
        try:
            save_settings(self.settings)
            self._on_disk = self.settings
        except StudioError as error:
            self.failed.emit(error)
        self.settings_changed.emit(self.settings)

    def status(self) -> Status:
        """Return what the bottom line says now."""
        working = self.runs.at_work_anywhere()
        shown = self.runs.shown
        if working or shown is None:
            session = shown if shown in working else (working[0] if working else None)
        else:
            session = shown
        if not working:
            for what, job in (
                (say("Exporting"), self.export),
                (say("Uploading"), self.upload),
                (say("Downloading"), self.download),
            ):
                if job.is_at_work():
                    return job_status(what, "", job.store.state, stopping=job.stopping)
        if session is None:
            return Status(facts=self._removed)
        others = max(0, len(working) - 1)
        now, store = time.time(), session.store
        status = run_status(store.state, store.config, now, name=store.name, others=others, asked=session.asked)
        return status if status.busy or not self._removed else replace(status, at_risk=self._removed)

    def watched(self) -> RunSession | None:
        """Return the run whose use of the card is measured: the one that is shown, or another one at work."""
        working, shown = self.runs.at_work(), self.runs.shown
        return shown if shown in working else next(iter(working), None)

    def names_at_work(self) -> tuple[str, ...]:
        """Return what a closing window leaves at work."""
        names = [session.store.name for session in self.runs.at_work() if session.store.config]
        names += [say("An export")] if self.export.is_at_work() else []
        names += [say("An upload")] if self.upload.is_at_work() else []
        return tuple(names)

    def end(self) -> None:
        """Leave the runs to themselves, end the small jobs and the sampling."""
        self.session.end()
        self.disk.end()
        self.estimates.end()
        self.queue.end()
        self._idle_clock.stop()
        self.idle.end()
        self.runs.leave_all()
        for job in (self.data, self.chat, self.download):
            job.end()
        for job in (self.export, self.upload):
            job.leave()
        give_up_all()
        wait_for_threads()
        self.gpu.stop()

    def stop_work(self) -> None:
        """Ask everything at work to save and end."""
        self.runs.stop_all()
        for job in (self.export, self.upload):
            if job.is_at_work():
                job.send(Stop(save=True))

    def look_after_idle_worker(self) -> None:
        """Have one wait for the card that the draft wishes for; none where something needs the memory."""
        busy = self.runs.at_work() or any(job.is_at_work() for job in (self.export, self.chat))
        with contextlib.suppress(StudioError, OSError):  # what is wrong is told where a run is started
            if not busy and self.settings.idle_worker == "kept" and self.idle.may_wait():
                self.idle.keep(card_environment(self.draft.config.hardware.gpus, self._cards(), os.environ))
                return
        self.idle.end()

    def _newest_settings(self) -> Settings:
        """Return the settings, as somebody else saved them since we last did; ours where theirs cannot be read."""
        there = load_settings()
        if there.problem or there == self._on_disk:
            return self.settings
        self._on_disk = there
        return there

    def _take_newest_settings(self) -> None:
        """Live by what another window chose."""
        newest = self._newest_settings()
        if newest != self.settings:
            self.settings = newest
            self.settings_changed.emit(newest)

    def _take_up_draft(self) -> None:
        """Take up the draft of the last session; of older versions, whose settings alone were kept, what they kept."""
        draft = self._last.config()
        if draft is not None:
            self.draft.take_up(draft)
            return
        last = {"hardware.gpus": self.settings.gpus}
        if not self._last.page:
            last |= {"model.source": self.settings.last_model, "data.path": self.settings.last_data}
        self.draft.set_values({path: value for path, value in last.items() if value})

    def _cards(self) -> tuple[GpuCard, ...]:
        return self.gpu.cards

    def _cards_at_work(self) -> tuple[str, ...]:
        models = [session.store.state.model for session in self.runs.at_work()]
        return tuple(uuid for model in models for uuid in (model.cards or [model.card] if model is not None else [""]))

    def _watch_worker(self) -> None:
        """Watch the worker of a run, on the card that it says it computes on."""
        session = self.watched()
        if session is None:
            self.gpu.watch_worker(None)
        else:
            self.gpu.watch_worker(session.store.state.pid or None, _card_of(session))

    def _on_tidied(self, removed: int) -> None:
        self._removed = removed_text(removed) if removed else ""

    def _on_search_answered(self, folders: list[RunFolder]) -> None:
        for folder in reversed(folders):
            self.runs.open(folder)


def _card_of(session: RunSession) -> str:
    """The UUID of the card that a run computes on, or of all; empty until it has said so, and on a processor."""
    model = session.store.state.model
    return ",".join(model.cards or [model.card]) if model is not None else ""


def _runs_to_show(runs: Path, last: str) -> list[RunFolder]:
    """Return the runs at work; where there is none, the one that was shown last, if it is still there."""
    busy = [folder for folder in run_folders(runs) if folder.is_busy()]
    return busy or [RunFolder(last)] if last and RunFolder(last).config_path.is_file() else busy
