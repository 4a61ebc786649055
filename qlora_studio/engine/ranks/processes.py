"""The other ranks of a run, as its worker starts them, hands them their orders, and sees them end."""

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from qlora_studio import child_process
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError, advice_for, ending_in_words
from qlora_studio.core.run import ranks
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.core.words import say
from qlora_studio.engine.faults import is_card_lost, is_out_of_memory
from qlora_studio.engine.ranks.group import ALONE, Ranks
from qlora_studio.engine.ranks.machines import OtherMachines
from qlora_studio.engine.ranks.meeting import Meeting
from qlora_studio.engine.ranks.order import GoingOn, RankAnswer, RankOrder
from qlora_studio.engine.ranks.pulse import SILENT_SECONDS
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.staging import staging_path

OWN_CARD = "own"  # in the place of a card: a rank sees what this process sees
_GONE_SECONDS = 10.0  # until a rank whose connection broke is seen to have ended
_SILENT_SECONDS = SILENT_SECONDS + 5  # and until a machine is
_STUCK_SECONDS = 30.0  # after that, for this process to have noticed it
_LET_GO_SECONDS = 2.0  # for a rank to end by itself; one that still imports is ended
_LOOK_SECONDS = 0.2
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def cards_of_ranks() -> list[str]:
    """Return what each rank of the run of this worker may see of cards; nothing where it trains alone."""
    cards = os.environ.get(ranks.VARIABLE, "").split(",")
    return cards if len(cards) > 1 else []


class RankProcesses:
    """The processes beside this one. As a context it ends them, and says what ended one of them, if that was it.

    They are started at once, so that they import their libraries while the data is prepared. `cards` are what each rank
    here may see, this process's own first; what ranks the other `machines` have is theirs.
    """

    def __init__(self, cards: Sequence[str], meeting_beside: Path, machines: OtherMachines) -> None:
        if cards and sys.platform != "linux":
            raise StudioError(
                say("Several cards train one run on Linux alone."),
                kind=FailureKind.INVALID_CONFIG,
                advice=say("Choose one card: --set hardware.gpus=auto"),
            )
        self._cards = cards
        self._machines = machines
        self._own = staging_path(meeting_beside.absolute())
        self._first = 1  # rank of those that are started here
        self.meeting = machines.meeting if machines.ranks else Meeting(file=self._own)
        self._processes = [_started(card) for card in cards[1:]]
        self._answers = [b"" for _ in self._processes]
        count = max(1, len(cards)) + machines.ranks
        self.ranks = Ranks(0, count, self.require_alive) if count > 1 else ALONE

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the ranks. Raises what ended one of them, where that is why this one cannot go on."""
        cause = self._cause_of(error) if error is not None and (self._processes or self._machines.ranks) else None
        if error is None:  # else a card may wait for one that is gone, and this would wait for it
            self.ranks.part()
        self._end()
        if cause is not None:
            raise cause from error

    def hand(
        self, config: RunConfig, base: Path, folder: RunFolder, going_on: GoingOn, made_from: Fingerprints
    ) -> None:
        """Hand every rank its order, and every machine its own."""
        order = RankOrder(
            folder=folder.path.absolute(),
            rank=1,
            count=self.ranks.count,
            meeting=self.meeting,
            config=config,
            base=base.absolute(),
            going_on=going_on,
        )
        self.hand_orders(order)
        self._machines.hand(config, folder, going_on, made_from, first_rank=max(1, len(self._cards)))

    def hand_orders(self, order: RankOrder) -> None:
        """Hand every rank here the same order, as the rank that it is, from the order's on."""
        self._first = order.rank
        for number, process in enumerate(self._processes, start=self._first):
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # that it is gone is seen below
                process.stdin.write(order.model_copy(update={"rank": number}).model_dump_json().encode() + b"\n")
                process.stdin.flush()

    def meet(self, compute_dtype: str, *, on_card: bool) -> None:
        """Wait until all others are ready, and come together with them. Raises StudioError where one is gone."""
        if not self.ranks.several or torch.distributed.is_initialized():
            return
        while (answers := self.answers()) is None:
            self.require_alive()
        while len(there := dict(self._machines.answers())) < self._machines.count:
            self.require_alive()
            time.sleep(_LOOK_SECONDS)
        machines = {say("those of machine {number}", number=number): answer for number, answer in there.items()}
        for card, answer in [*zip(self._cards[1:], answers, strict=True), *machines.items()]:
            if answer.compute_dtype != compute_dtype:
                raise _unlike(card, answer.compute_dtype, compute_dtype)
        self.ranks.meet(self.meeting, on_card=on_card)
        self.watch()

    def watch(self) -> None:
        """End this process from now on where a rank is gone, and nothing else here does."""
        threading.Thread(target=self._end_where_stuck, name="rank-watch", daemon=True).start()

    def answers(self) -> list[RankAnswer] | None:
        """Return what the ranks here answered; None where some are not ready within a moment, or never will be."""
        lines = [answer.split(b"\n")[0] for answer in self._answers if b"\n" in answer]
        found = [RankAnswer.model_validate_json(line) for line in lines]
        if len(found) == len(self._processes) and not any(answer.failed for answer in found):
            return found
        self._read(_LOOK_SECONDS)
        return None

    def require_alive(self) -> None:
        """Raise what ended a rank or a machine that is gone: none leaves before it is let go."""
        if cause := self._cause():
            raise cause

    def _end_where_stuck(self) -> None:
        """A card waits for ever for one that is gone. The supervisor goes by the last words."""
        while not any(process.poll() is not None for process in self._processes):
            time.sleep(_LOOK_SECONDS * 5)
            if not self._processes:
                return
        time.sleep(_STUCK_SECONDS)
        if self._processes and (cause := self._cause()):
            print(cause.message, file=sys.stderr, flush=True)
            os._exit(ExitCode.ERROR)

    def _end(self) -> None:
        """Let go of the others: who waits for nothing any more ends at once."""
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LET_GO_SECONDS)
            process.kill()
            process.wait()
        self._processes = []
        self._own.unlink(missing_ok=True)

    def _cause_of(self, error: BaseException) -> StudioError | None:
        """Return what ended a rank, where an error here may only say so: a broken connection is a RuntimeError."""
        if not isinstance(error, RuntimeError) or is_out_of_memory(error) or is_card_lost(error):
            return None
        deadline = time.monotonic() + (_SILENT_SECONDS if self._machines.ranks else _GONE_SECONDS)
        while (cause := self._cause()) is None and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return cause

    def _cause(self) -> StudioError | None:
        """Return what ended the first rank that ended badly, in its own words where it had some."""
        codes = [process.poll() for process in self._processes]
        self._read(0)  # only now: who has ended by then has said all
        for index, (code, answer) in enumerate(zip(codes, self._answers, strict=True)):
            if code is not None:
                name = _named(self._first + index, self._cards[index + 1])
                told = [RankAnswer.model_validate_json(line).failed for line in answer.split(b"\n")[:-1]]
                failed = next((item for item in told if item is not None), None)
                if failed is not None:
                    words = say("{process}: {message}", process=name, message=failed.message)
                    return StudioError(words, kind=failed.kind, advice=failed.advice, detail=failed.detail)
                kind, how = FailureKind.WORKER_DIED, ending_in_words(code)
                words = say("{process} is gone: {how}.", process=name, how=how)
                return StudioError(words, kind=kind, advice=advice_for(kind, "train"))
        return self._machines.cause

    def _read(self, seconds: float) -> None:
        """Read what they have answered by now, or within some seconds."""
        pipes = {process.stdout: index for index, process in enumerate(self._processes)}
        for pipe in select.select([pipe for pipe in pipes if pipe is not None], [], [], seconds)[0]:
            self._answers[pipes[pipe]] += os.read(pipe.fileno(), 1 << 20)


def _started(card: str) -> "subprocess.Popen[bytes]":
    environment = {} if card == OWN_CARD else {_VISIBLE: "" if card == "cpu" else card}
    return child_process.start(
        child_process.python("-m", "qlora_studio", "rank"),
        environment=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _named(number: int, card: str) -> str:
    if card in ("cpu", OWN_CARD):
        return say("Worker {number} of the run", number=number + 1)
    return say("The run's worker on card {card}", card=card)


def _unlike(card: str, found: str, wanted: str) -> StudioError:
    return StudioError(
        say(
            "The cards of this run do not compute alike: the first one in {wanted}, card {card} in {found}.",
            wanted=wanted,
            card=card,
            found=found,
        ),
        kind=FailureKind.INVALID_CONFIG,
        advice=say("Choose a precision that all of them have: --set quantization.compute_dtype=float16"),
    )
