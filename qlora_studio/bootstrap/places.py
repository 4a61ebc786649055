"""Where the program lives for one user: its environments, which of them is in use, and what is on its way."""

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qlora_studio.bootstrap.failure import SetupError
from qlora_studio.core.words import say
from qlora_studio.storage.installation import SETUP_MARK

_NAME = "qlora-studio-program"
_GOING = ".going-"  # a folder that is being removed: no name of an environment


@dataclass(frozen=True)
class Environment:
    """One environment, at the path that it keeps: what pip writes into it names that path."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python3")

    @property
    def packages(self) -> Path:
        """Where pip puts packages."""
        if sys.platform == "win32":
            return self.folder / "Lib" / "site-packages"
        return self.folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"

    @property
    def is_whole(self) -> bool:
        """Whether everything was installed into it."""
        return (self.folder / SETUP_MARK).is_file() and self.python.exists()

    def mark_whole(self) -> None:
        """Say so, after the last package."""
        (self.folder / SETUP_MARK).touch()


@dataclass(frozen=True)
class Places:
    """The folder of the program. `current` in it names the environment in use, and is replaced whole."""

    root: Path

    @classmethod
    def of_the_user(cls) -> "Places":
        """Return the user's own; `QLORA_STUDIO_PROGRAM` puts it elsewhere, on a larger disk for instance."""
        if chosen := os.environ.get("QLORA_STUDIO_PROGRAM"):
            return cls(Path(chosen).absolute())
        if sys.platform == "win32":
            return cls(Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / _NAME)
        return cls(Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / _NAME)

    @property
    def wheels(self) -> Path:
        """What was downloaded whole."""
        return self.root / "wheels"

    @property
    def log(self) -> Path:
        """What pip said, the last time."""
        return self.root / "setup.log"

    def current(self) -> Environment | None:
        """Return the environment in use, where it can be used."""
        try:
            name = (self.root / "current").read_text("utf-8").strip()
        except (OSError, ValueError):
            return None
        found = Environment(self._environments / Path(name).name)
        return found if name and found.is_whole else None

    def unfinished(self, edition: str) -> Environment:
        """Return the environment to make: one that was begun for this edition, or the next free name."""
        current = self.current()
        made = {path.name for path in self._all() if re.fullmatch(rf"{re.escape(edition)}\.\d+", path.name)}
        begun = made - ({current.folder.name} if current else set())
        free = next(name for n in range(1, len(made) + 2) if (name := f"{edition}.{n}") not in made)
        return Environment(self._environments / min(begun, default=free))

    def switch(self, environment: Environment) -> None:
        """Make an environment the one in use: at one moment, and on the disk before anything goes."""
        staged = self.root / "current.new"
        with staged.open("w", encoding="utf-8", newline="\n") as file:
            file.write(environment.folder.name + "\n")
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self.root / "current")

    def remove_unused(self) -> None:
        """Remove what is not in use: a run may go on for days in the environment that it was started in."""
        current = self.current()
        for folder in self._all():
            if folder.name.startswith(_GOING):
                shutil.rmtree(folder, ignore_errors=True)
            elif (not current or folder != current.folder) and not at_work_in(folder):
                removed(folder)
        removed(self.wheels)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who changes anything here; the system lets go of it when this process ends, however."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = (self.root / "setup.lock").open("a+b")
        except OSError as error:
            raise _not_writable(self.root, error) from error
        with file:
            if not _lock(file.fileno()):
                raise SetupError(
                    say("QLoRA Studio is being set up already."), say("Wait for the other window, or close it.")
                )
            yield

    @property
    def _environments(self) -> Path:
        return self.root / "environments"

    def _all(self) -> list[Path]:
        return sorted(self._environments.iterdir()) if self._environments.is_dir() else []


def removed(folder: Path) -> bool:
    """Remove a folder that may be in use, renamed first so that no half of it is ever taken for a whole."""
    going = folder.with_name(f"{_GOING}{folder.name}")
    shutil.rmtree(going, ignore_errors=True)
    with contextlib.suppress(OSError):  # not there; or, on Windows, in use
        folder.rename(going)
        shutil.rmtree(going, ignore_errors=True)
    return not folder.exists()


def at_work_in(folder: Path) -> int:
    """Return the number of a process that was started from a folder, or 0; Windows guards files itself."""
    start = os.fsencode(folder) + os.sep.encode()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if any(word.startswith(start) for word in process.read_bytes().split(b"\0")[:2]):
                return int(process.parent.name)
    return 0


def _lock(number: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _not_writable(folder: Path, error: OSError) -> SetupError:
    return SetupError(
        say("{folder} cannot be written: {why}.", folder=folder, why=error.strerror or error),
        say("Give it to your user, or name another folder in QLORA_STUDIO_PROGRAM."),
    )
