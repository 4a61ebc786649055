"""The job of every other machine than the first: its ranks train along with the run that machine 0 has.

This process computes nothing. It starts the ranks, one a card, hands them what machine 0 decided, and looks after both.
"""

import re
import time
from contextlib import suppress
from pathlib import Path

from qlora_studio import __version__
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.events import Failed, Finished
from qlora_studio.core.run.job import MachineJob
from qlora_studio.core.run.machines import different_settings, with_own_places
from qlora_studio.core.words import say
from qlora_studio.engine.context import JobContext, JobStopped
from qlora_studio.engine.model.base import base_folder
from qlora_studio.engine.ranks.machines import Hello, MachineOrder, OtherMachines, unlike_version
from qlora_studio.engine.ranks.meeting import Meeting
from qlora_studio.engine.ranks.order import GoingOn, RankAnswer, RankOrder
from qlora_studio.engine.ranks.processes import OWN_CARD, RankProcesses, cards_of_ranks
from qlora_studio.engine.ranks.pulse import Pulse
from qlora_studio.storage.permissions import private_folder

_LOOK_SECONDS = 0.3
_NAME = re.compile(r"(start/)?[\w-][\w.-]*")


def run(job: MachineJob, context: JobContext) -> Finished:
    """Train along, to the end that machine 0 sets. Raises StudioError with what ended it otherwise."""
    cards = cards_of_ranks() or [OWN_CARD]
    with RankProcesses(["", *cards], context.folder.path / "ranks", OtherMachines(None)) as ranks:
        context.phase(Activity.WAITING_FOR_MACHINES)
        with _FirstMachine(job, context) as first:
            first.say("hello", Hello(studio=__version__, ranks=len(cards)).model_dump_json())
            order = first.order(ranks)
            _require_same_settings(order.run_config, job.config)
            config = with_own_places(order.config, job.config)
            base = base_folder(config.model.source, config.model.revision, context)
            folder = first.fetched(order, context.folder.path / "run")
            context.phase(Activity.LOADING_MODEL)
            ranks.hand_orders(_rank_order(job, order, config, base, folder))
            while (answers := ranks.answers()) is None:
                first.look(ranks)
            first.say("ready", _one_kind(answers).model_dump_json())
            context.phase(Activity.TRAINING)
            while not first.is_over():
                first.look(ranks)
                time.sleep(_LOOK_SECONDS)
    return Finished(status="completed")


class _FirstMachine:
    """Machine 0, as another one sees it. As a context it lets that know that this one is done, or what ended it."""

    def __init__(self, job: MachineJob, context: JobContext) -> None:
        self._number = job.machines.number
        self._meeting = Meeting.of(job.machines)
        self._context = context

    def __enter__(self) -> "_FirstMachine":
        while not self._meeting.is_open():
            self._context.raise_if_stopped()
            time.sleep(_LOOK_SECONDS)
        self._store = self._meeting.store()
        its = self._store.get("studio").decode()
        if its != __version__:
            raise unlike_version(0, its, self._number, __version__)
        self._pulse = Pulse(self._meeting, self._number, [0])
        self._pulse.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        is_there = self._pulse.cause is None
        self._pulse.end()
        if not is_there:
            return
        with suppress(RuntimeError):  # it may be gone just now
            if error is None:
                self.say("left", "")
            else:
                self.say("failed", _failure(error).model_dump_json())

    def say(self, what: str, text: str) -> None:
        """Tell machine 0 something of this one."""
        self._store.set(f"{what}/{self._number}", text)

    def look(self, ranks: RankProcesses) -> None:
        """Raise what ended a rank here, or machine 0; or JobStopped."""
        self._context.raise_if_stopped()
        ranks.require_alive()
        if self._pulse.cause is not None:
            raise self._pulse.cause

    def is_over(self) -> bool:
        """Whether machine 0 has ended the training well."""
        return self._pulse.is_over

    def order(self, ranks: RankProcesses) -> MachineOrder:
        """Wait for what machine 0 decides."""
        while not self._store.check([f"order/{self._number}"]):
            self.look(ranks)
            time.sleep(_LOOK_SECONDS)
        return MachineOrder.model_validate_json(self._store.get(f"order/{self._number}"))

    def fetched(self, order: MachineOrder, place: Path) -> Path:
        """Fetch what ranks read of the run into a folder, and return that."""
        for folder in (place, place / "start"):
            private_folder(folder)
        for file in order.files:
            if not _NAME.fullmatch(file.name):
                raise StudioError(say("Machine 0 sends a file named {name}.", name=file.name), kind=FailureKind.ERROR)
            with (place / file.name).open("wb") as written:
                for piece in range(file.pieces):
                    written.write(self._store.get(f"file/{file.name}/{piece}"))
        return place


def _rank_order(job: MachineJob, order: MachineOrder, config: RunConfig, base: Path, folder: Path) -> RankOrder:
    """Return the order of the first rank here; the others follow it."""
    start = (folder / "start").absolute() if order.going_on.start else None
    checkpoint = start if order.going_on.checkpoint else None
    return RankOrder(
        folder=folder.absolute(),
        rank=order.first_rank,
        count=order.count,
        meeting=Meeting.of(job.machines),
        config=config,
        base=base.absolute(),
        going_on=GoingOn(start=start, checkpoint=checkpoint, step=order.going_on.step),
        made_from=order.made_from,
    )


def _require_same_settings(first: RunConfig, own: RunConfig) -> None:
    if different := different_settings(first, own):
        raise StudioError(
            say(
                "The run file here is not that of machine 0: {settings} differ.",
                settings=", ".join(different[:5]),
            ),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("Copy run.toml from there; only names, folders and cards may be others."),
        )


def _one_kind(answers: list[RankAnswer]) -> RankAnswer:
    """Return what all ranks here compute in. Raises StudioError where they do not agree."""
    dtypes = list(dict.fromkeys(answer.compute_dtype for answer in answers))
    if len(dtypes) > 1:
        raise StudioError(
            say("The cards here do not compute alike: some in {one}, some in {other}.", one=dtypes[0], other=dtypes[1]),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("Choose a precision that all of them have: --set quantization.compute_dtype=float16"),
        )
    return answers[0]


def _failure(error: BaseException) -> Failed:
    if isinstance(error, StudioError):
        return Failed(kind=error.kind, message=error.message, advice=error.advice, detail=error.detail)
    stopped = isinstance(error, JobStopped | KeyboardInterrupt)
    words = say("It was stopped there.") if stopped else say("Its training failed there.")
    return Failed(kind=FailureKind.INTERRUPTED if stopped else FailureKind.WORKER_DIED, message=words)
