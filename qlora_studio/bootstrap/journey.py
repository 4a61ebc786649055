"""The way from nothing to an environment in use. Killed anywhere, it goes on from there; before its last step nothing
that worked is touched."""

import contextlib
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from qlora_studio.bootstrap.failure import MissingLibrary, SetupError
from qlora_studio.bootstrap.pip import Runner
from qlora_studio.bootstrap.places import Environment, Places, removed
from qlora_studio.bootstrap.plan import Piece, batches, pieces_of
from qlora_studio.bootstrap.reuse import taken_over
from qlora_studio.bootstrap.source import USUAL, Source, size_of
from qlora_studio.core.torch_builds import PROCESSOR, Choice, index_of
from qlora_studio.core.words import say

_GB = 1_000_000_000
_UPDATE_BYTES = 2 * _GB  # most often: a newer PyTorch takes more, and the full disk is told then
_OLDEST_PYTHON = (3, 11)
_TRIAL = "import PySide6.QtCore, torch, transformers, trl, peft, bitsandbytes, datasets"
_BINARY = ("--only-binary", ":all:")
_USUAL_BUILD = {"linux": "cu130", "win32": PROCESSOR}  # which build the usual index has


class Step(Enum):
    """The steps, each with its words."""

    LOOK = say("Look at the disk and at Python")
    PREPARE = say("Make an environment")
    CHOOSE = say("Choose the packages")
    FETCH = say("Download")
    INSTALL = say("Install")
    TRY = say("Try it")


@dataclass(frozen=True)
class Progress:
    """Where it stands: the step, how much of it is done (None: not known), and what is being done."""

    step: Step
    share: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Wish:
    """What is to be installed, and from where: `wheels` is a folder to take all from, without a network."""

    source: Source
    torch: Choice
    wheels: Path | None = None


@dataclass
class Journey:
    """One try. `tell` gets where it stands, from the thread that runs it; `stop` ends it at the next moment."""

    places: Places
    wish: Wish
    tell: Callable[[Progress], None]
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._runner = Runner(self.places.log, self.stop, str(self.wish.wheels or ""))

    def go(self) -> Environment:
        """Make the environment and have it used from now on."""
        self.tell(Progress(Step.LOOK))
        check(self.places, self.wish)
        with self.places.locked():
            self.places.log.unlink(missing_ok=True)
            environment = self.places.unfinished(self.wish.source.edition)
            if not environment.is_whole:
                self._fill(environment)
            self._try(environment)
            self.places.switch(environment)
            self.places.remove_unused()
        return environment

    def collect(self, folder: Path) -> int:
        """Put every wheel into a folder, for a computer of the same kind without a network; return how many."""
        with self.places.locked():
            folder.mkdir(parents=True, exist_ok=True)
            environment = self._made(self.places.unfinished(self.wish.source.edition))
            pieces = self._chosen(environment)
            for path in self._fetched(environment, pieces, folder):
                if path.parent != folder:
                    shutil.copy2(path, folder)
            with contextlib.suppress(SetupError):  # an index may be without
                self._runner.pip(environment.python, "download", "--no-deps", "--dest", str(folder), "pip")
            removed(environment.folder)
        return len(pieces)

    def _fill(self, environment: Environment) -> None:
        environment = self._made(environment)
        pieces = self._chosen(environment)
        current = self.places.current()
        if current and is_update(self.places, self.wish):  # a repair takes over nothing
            there = taken_over(current, environment, pieces)
            pieces = [piece for piece in pieces if piece.name not in there]
        self._install(environment, self._fetched(environment, pieces, self.places.wheels))

    def _made(self, environment: Environment) -> Environment:
        """Make the environment anew: installing is minutes at most, and half a package is worse than none."""
        self.tell(Progress(Step.PREPARE))
        removed(environment.folder)
        self._runner.run([sys.executable, "-I", "-m", "venv", str(environment.folder)])
        with contextlib.suppress(*[SetupError] if self.wish.wheels else []):  # a folder may be without a newer pip
            self._runner.pip(environment.python, "install", *self._from(), "--upgrade", "--quiet", "pip")
        return environment

    def _from(self) -> list[str]:
        """Return pip's words for where packages come from."""
        if self.wish.wheels is None:
            return []
        return ["--no-index", "--find-links", str(self.wish.wheels)]

    def _chosen(self, environment: Environment) -> list[Piece]:
        """Return what is to be installed, PyTorch by the index of its build: it is asked for that alone."""
        self.tell(Progress(Step.CHOOSE))
        source, build = self.wish.source, self.wish.torch.build
        pieces = self._asked(environment, *self._from(), str(source.wheel), "--constraint", str(source.constraints))
        if source.starter:  # its own dependencies would compile llama.cpp
            pieces += self._asked(environment, *self._from(), "--no-deps", source.starter)
        if self.wish.wheels or build in (_USUAL_BUILD.get(sys.platform), USUAL):
            return pieces
        torch = self._asked(environment, "--index-url", index_of(build), source.torch)
        return [piece for piece in pieces if not piece.is_of_torch] + [piece for piece in torch if piece.is_of_torch]

    def _asked(self, environment: Environment, *words: str) -> list[Piece]:
        report = environment.folder / "report.json"
        asked = ["install", "--dry-run", "--ignore-installed", "--report", str(report), *_BINARY, *words]
        self._runner.pip(environment.python, *asked)
        return pieces_of(report)

    def _fetched(self, environment: Environment, pieces: list[Piece], folder: Path) -> list[Path]:
        """Return where every wheel lies. Only what arrived whole gets its name in the folder."""
        arriving = self.places.root / "arriving"
        paths = {piece.name: piece.here or folder / piece.file_name for piece in pieces}
        whole = sum(piece.weight for piece in pieces)
        wanted = [piece for piece in pieces if not paths[piece.name].is_file()]
        for batch in batches(wanted):
            removed(arriving)
            left = sum(piece.weight for piece in wanted if not paths[piece.name].is_file())
            meter = _Meter(self.tell, 1 - left / whole, sum(piece.weight for piece in batch) / whole, batch)
            meter("")
            urls = [piece.url + (f"#sha256={piece.sha256}" if piece.sha256 else "") for piece in batch]
            words = ["download", "--no-deps", "--no-cache-dir", *_BINARY, "--progress-bar", meter.way(environment)]
            self._runner.pip(environment.python, *words, "--dest", str(arriving), *urls, tick=meter)
            folder.mkdir(parents=True, exist_ok=True)
            for path in arriving.iterdir():
                path.replace(folder / path.name)
        removed(arriving)
        return list(paths.values())

    def _install(self, environment: Environment, paths: list[Path]) -> None:
        def there() -> int:
            return sum(1 for _ in environment.packages.glob("*.dist-info"))

        def count(_line: str) -> None:
            share = min((there() - before) / len(paths), 1.0)
            self.tell(Progress(Step.INSTALL, share, say("{n} packages", n=len(paths))))

        before = there()

        words = ["install", "--no-index", "--no-deps", "--no-warn-script-location", "--quiet", *map(str, paths)]
        self._runner.pip(environment.python, *words, tick=count)
        environment.mark_whole()

    def _try(self, environment: Environment) -> None:
        self.tell(Progress(Step.TRY))
        try:
            self._runner.run([str(environment.python), "-I", "-m", "qlora_studio", "--version"])
            self._runner.run([str(environment.python), "-I", "-c", _TRIAL])
        except MissingLibrary:
            raise
        except SetupError as error:
            removed(environment.folder)
            raise SetupError(
                say("The new environment does not work: {why}", why=error.message),
                say("Try again. If it happens again, {log} has the details.", log=self.places.log),
            ) from error


def check(places: Places, wish: Wish) -> None:
    """Refuse what cannot end well, before anything is downloaded."""
    if sys.version_info < _OLDEST_PYTHON:
        raise SetupError(
            say("This Python is {version}: 3.11 or newer is needed.", version=sys.version.split()[0]),
            say("Install a newer Python beside it, and set QLoRA Studio up with that."),
        )
    place = next(folder for folder in (places.root, *places.root.parents) if folder.is_dir())
    need, free = needed(places, wish), shutil.disk_usage(place).free
    have = sum(path.stat().st_size for path in places.wheels.glob("*.whl"))
    if free + have < need:
        raise SetupError(
            say(
                "{folder} has {free:.1f} GB free: {need:.1f} GB are needed.",
                folder=place,
                free=free / _GB,
                need=need / _GB,
            ),
            say("Free some space, or name a folder on a larger disk in QLORA_STUDIO_PROGRAM."),
        )


def needed(places: Places, wish: Wish) -> int:
    """Return the bytes that an installation needs on the disk while it is made."""
    size = size_of(wish.torch.build)
    if is_update(places, wish):
        return _UPDATE_BYTES
    return size.installed + (0 if wish.wheels else size.downloaded)


def is_update(places: Places, wish: Wish) -> bool:
    """Whether another edition is in use, of which all is taken over that stays the same."""
    current = places.current()
    return current is not None and not wish.source.is_in(current)


@dataclass
class _Meter:
    """Tells how far a batch is, from pip's own lines: which file, and `Progress 12 of 34` in bytes."""

    tell: Callable[[Progress], None]
    start: float
    span: float
    batch: list[Piece]
    _done: int = -1
    _share: float = 0.0
    _bytes: str = ""

    def way(self, environment: Environment) -> str:
        """Return how pip is to tell it: one of before 24.1 has no form for programs."""
        name = next(environment.packages.glob("pip-*.dist-info"), Path("pip-0.dist-info")).name
        numbers = name.split("-")[1].split(".")
        return "raw" if [int(part) for part in numbers[:2] if part.isdigit()] >= [24, 1] else "off"

    def __call__(self, line: str) -> None:
        words = line.split()
        if words[:1] == ["Collecting"]:
            self._done, self._share, self._bytes = self._done + 1, 0.0, ""
        elif len(words) == 4 and words[0] == "Progress" and words[3].isdigit() and words[3] != "0":
            self._share = int(words[1]) / int(words[3])
            self._bytes = say("{done:.0f} of {all:.0f} MB", done=int(words[1]) / 1e6, all=int(words[3]) / 1e6)
        piece = self.batch[min(max(self._done, 0), len(self.batch) - 1)]
        within = min((max(self._done, 0) + self._share) / len(self.batch), 1.0)
        detail = f"{piece.name} {piece.version}" + (f", {self._bytes}" if self._bytes else "")
        self.tell(Progress(Step.FETCH, self.start + self.span * within, detail))
