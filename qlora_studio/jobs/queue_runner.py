"""Starts the queue's runs one after another, each when a card is free enough. Called now and then; never waits."""

import os
from collections import Counter
from collections.abc import Callable, Sequence

from qlora_studio.core.config.run_config import means_several
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.words import say
from qlora_studio.jobs.card_choice import chosen_card, chosen_cards
from qlora_studio.jobs.gpu_sample import GpuCard
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.run_queue import QueuedRun, RunQueue

_WELL = (Phase.FINISHED, Phase.PAUSED, Phase.STOPPED)


class QueueRunner:
    """Runs the queue: one run at a time on each card, and one where there is none. Some runs take several cards.

    `queue` may be another one from any moment on; what was started from the one before counts as at work.
    `cards()` are the machine's cards; `at_work()` tells of each run at work elsewhere the UUIDs of its cards, an empty
    one where it is on a processor or has not said so yet.
    """

    def __init__(
        self,
        queue: RunQueue,
        cards: Callable[[], Sequence[GpuCard]],
        at_work: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.queue = queue
        self._cards = cards
        self._at_work = at_work
        self._processes: dict[str, WorkerProcess] = {}  # by the UUID of the card
        self.waiting_for = ""
        self.failures: list[tuple[RunFolder, StudioError]] = []

    @property
    def current(self) -> tuple[RunFolder, ...]:
        """The runs that were started here and whose workers are at work."""
        processes = dict.fromkeys(self._processes.values())
        return tuple(process.folder for process in processes if process.poll() is None)

    def start_next(self) -> WorkerProcess | None:
        """Start the first run that a card is free for and return its worker; None where there is none.

        A run that waits for a card keeps it from those behind it.
        """
        self.waiting_for = ""
        if not (waiting := self.queue.runs()):
            return None
        own = {uuid for uuid, process in self._processes.items() if process.poll() is None}
        busy = own | set(self._at_work())
        if "" in busy:  # it may be on any card
            return None
        cards = self._cards()
        free = [card for card in cards if card.uuid not in busy]
        for run in waiting:
            if not free and (cards or busy):
                return None
            if run.folder.is_busy():  # somebody else started it
                self.queue.remove(run.folder)
                return None
            wanted, why = _cards_for(run, cards, free, busy)
            if not why:
                return self._start(run, wanted)
            self.waiting_for = self.waiting_for or why
            free = [card for card in free if card not in wanted]
        return None

    def _start(self, run: QueuedRun, cards: Sequence[GpuCard]) -> WorkerProcess | None:
        """Start a run and take it out of the queue, in this order: a power cut between the two loses no run."""
        uuids = [card.uuid for card in cards] or [""]
        process = None
        try:
            process = start_worker(run.folder, gpus=",".join(uuids))
            self._processes.update(dict.fromkeys(uuids, process))
        except StudioError as error:
            self.failures.append((run.folder, error))
        self.queue.remove(run.folder)
        return process


def queue_summary(folders: Sequence[RunFolder]) -> str:
    """Return what became of runs: "The queue is done: 2 finished, 1 failed."."""
    counts = Counter(ended_phase(folder) for folder in folders)
    told = ", ".join(f"{count} {phase.words.lower()}" for phase, count in counts.items())
    return say("The queue is done: {told}.", told=told)


def ended_phase(folder: RunFolder) -> Phase:
    """Return how a run ended: well, or failed, which it is too where its events cannot be read."""
    try:
        phase = folder.state().phase
    except StudioError:
        return Phase.FAILED
    return phase if phase in _WELL else Phase.FAILED


def _cards_for(
    run: QueuedRun, cards: Sequence[GpuCard], free: Sequence[GpuCard], busy: set[str]
) -> tuple[tuple[GpuCard, ...], str]:
    """Return the cards that a run would take of those that are free, and what it still waits for."""
    try:
        wish = run.folder.config().hardware.gpus
        several = chosen_cards(wish, cards, os.environ) if means_several(wish) else ()
        card = None if several else chosen_card(wish, free, os.environ)
    except StudioError:
        return (), say("its card to be free") if busy else ""  # where none is at work, the start says what is wrong
    wanted = several or ((card,) if card is not None else ())
    if not wanted:
        return (), say("a card to be free") if busy else ""
    if not all(card in free for card in wanted):
        return wanted, say("its cards to be free")
    if all(card.free_bytes is None or card.free_bytes >= run.needed_bytes for card in wanted):
        return wanted, ""
    return wanted, say("the cards to be free enough") if several else say("the card to be free enough")
