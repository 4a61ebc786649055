"""The other machines of a run, as its worker on machine 0 sees them; and what it hands them.

They are told everything by what machine 0 keeps at the port where they meet. Nothing of it is secret from whoever
reaches that port, and whoever does can change it: hence the act by which the network is called trusted.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel

from qlora_studio import __version__
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.events import Failed
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.core.run.machines import Machines
from qlora_studio.core.words import say
from qlora_studio.engine.ranks.meeting import Meeting, listening_store
from qlora_studio.engine.ranks.order import GoingOn, RankAnswer
from qlora_studio.engine.ranks.pulse import Pulse
from qlora_studio.storage.runs.run_folder import RunFolder

PIECE = 4 << 20  # bytes of a file that travel together
_LOOK_SECONDS = 0.2
_LEAVING_SECONDS = 10.0  # for the others to see that all is done, before this one lets go of where they meet


class Hello(BaseModel):
    """What a machine says first: which version it is, and how many ranks it will have."""

    studio: str
    ranks: int


class SentFile(BaseModel):
    """A file of the run that other machines need: where it belongs, and in how many pieces it comes."""

    name: str
    pieces: int


class MachineOrder(BaseModel):
    """What machine 0 decided: the config of the run, and as it is trained; what all is made from; who is which rank."""

    run_config: RunConfig
    config: RunConfig
    made_from: Fingerprints
    going_on: GoingOn
    first_rank: int
    count: int
    files: list[SentFile]


class OtherMachines:
    """As a context it lets the others go, or tells them what ended this one. Without `machines` there are none."""

    def __init__(self, machines: Machines | None) -> None:
        self._machines = machines
        self._numbers = range(1, machines.count) if machines else range(0)
        self._ranks: dict[int, int] = {}
        self._pulse: Pulse | None = None
        if machines is not None:
            self.meeting = Meeting.of(machines)
            self._store = listening_store(machines)
            self._store.set("studio", __version__)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._machines is None:
            return
        with suppress(RuntimeError):  # nobody may be there any more
            if error is None:
                self._store.set("ended", "")
            else:
                self._store.set("failed/0", _failure(error).model_dump_json())
            self._wait_until_left()
        if self._pulse is not None:
            self._pulse.end()

    @property
    def ranks(self) -> int:
        """How many ranks they have."""
        return sum(self._ranks.values())

    @property
    def cause(self) -> StudioError | None:
        """Why one of them is not there any more."""
        return self._pulse.cause if self._pulse is not None else None

    def gather(self, raise_if_stopped: Callable[[], None]) -> None:
        """Wait until all have come. Raises StudioError where one is of another version, and JobStopped."""
        while missing := [number for number in self._numbers if number not in self._ranks]:
            raise_if_stopped()
            for number in missing:
                if self._store.check([f"hello/{number}"]):
                    hello = Hello.model_validate_json(self._store.get(f"hello/{number}"))
                    if hello.studio != __version__:
                        raise unlike_version(0, __version__, number, hello.studio)
                    self._ranks[number] = hello.ranks
            time.sleep(_LOOK_SECONDS)
        if self._machines is not None:
            self._pulse = Pulse(self.meeting, 0, self._numbers)
            self._pulse.start()

    def hand(
        self, config: RunConfig, folder: RunFolder, going_on: GoingOn, made_from: Fingerprints, first_rank: int
    ) -> None:
        """Hand each of them its order, and the files of the run that its ranks will read."""
        if self._machines is None:
            return
        files = [self._sent(name, path) for name, path in _needed(folder, going_on)]
        count = first_rank + self.ranks
        for number in self._numbers:
            order = MachineOrder(
                run_config=folder.config(),
                config=config,
                made_from=made_from,
                going_on=going_on,
                first_rank=first_rank,
                count=count,
                files=files,
            )
            self._store.set(f"order/{number}", order.model_dump_json())
            first_rank += self._ranks[number]

    def answers(self) -> Iterator[tuple[int, RankAnswer]]:
        """Yield what the ranks of each machine that is ready answered, with its number."""
        for number in self._numbers:
            if self._store.check([f"ready/{number}"]):
                yield number, RankAnswer.model_validate_json(self._store.get(f"ready/{number}"))

    @property
    def count(self) -> int:
        """How many machines there are beside this one."""
        return len(self._numbers)

    def _sent(self, name: str, path: Path) -> SentFile:
        pieces = 0
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                self._store.set(f"file/{name}/{pieces}", piece)
                pieces += 1
        return SentFile(name=name, pieces=pieces)

    def _wait_until_left(self) -> None:
        keys = [f"left/{number}" for number in self._ranks]
        deadline = time.monotonic() + _LEAVING_SECONDS
        while keys and time.monotonic() < deadline and self.cause is None and not self._store.check(keys):
            time.sleep(_LOOK_SECONDS)


def unlike_version(one: int, its: str, other: int, others: str) -> StudioError:
    """Return that two machines have different versions of this program."""
    return StudioError(
        say(
            "Machine {one} has QLoRA Studio {its}, machine {other} has {others}.",
            one=one,
            its=its,
            other=other,
            others=others,
        ),
        kind=FailureKind.INVALID_CONFIG,
        advice=say("Install the same version on all of them."),
    )


def _failure(error: BaseException) -> Failed:
    if isinstance(error, StudioError):
        return Failed(kind=error.kind, message=error.message, advice=error.advice, detail=error.detail)
    return Failed(kind=FailureKind.WORKER_DIED, message=say("The run was ended there."))


def _needed(folder: RunFolder, going_on: GoingOn) -> Sequence[tuple[str, Path]]:
    """Return what of a run other ranks read: its config, its events, and the checkpoint or adapter it goes on from."""
    files = [("run.toml", folder.config_path), ("events.jsonl", folder.events_path)]
    if going_on.start is not None:
        found = sorted(path for path in going_on.start.iterdir() if path.is_file() and not path.is_symlink())
        files += [(f"start/{path.name}", path) for path in found]
    return files
