"""A clean place to install into: a home that was never used, little of this shell's environment; and what it takes."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_KEPT = ("HF_", "PIP_", "UV_", "SSL_", "LANG", "LC_", "http", "HTTP", "no_proxy", "NO_PROXY", "SYSTEMROOT", "OMP_")
_NOT_OURS = (
    ".cache/dconf",
    ".cache/fontconfig",
    ".cache/mesa_shader_cache",
    ".cache/pip",
    ".cache/uv",
    ".config/pulse",
    ".local/pipx",
)


class Untried(Exception):
    """A tool or a right is missing here: nothing is known of this way, and the sentence says what it takes."""


@dataclass
class Place:
    """One way of installing, in a folder of its own."""

    way: str
    root: Path
    dist: Path
    wheels: Path
    torch: str
    seconds: dict[str, float] = field(default_factory=dict)
    file_bytes: int = 0
    installed_bytes: int = 0
    left: str = ""
    verdict: str = ""

    @property
    def home(self) -> Path:
        """The home of who installs."""
        return self.root / "home"

    def built(self, pattern: str) -> Path:
        """Return the file that make dist built, and take down its size."""
        file = self.found(pattern)
        self.file_bytes = file.stat().st_size
        return file

    def found(self, pattern: str) -> Path:
        """Return a file that make dist built, whose size is not what is measured."""
        file = next(self.dist.glob(pattern), None)
        assert file, f"{pattern} is not in {self.dist}: run make dist."
        return file

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Take down how long a step takes."""
        print(f"   {name}", flush=True)
        begun = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begun

    def run(self, *command: str | Path, more: Mapping[str, str] = {}, may_fail: bool = False) -> tuple[int, str]:
        """Run a program as somebody who never saw the checkout; return its exit code and what it wrote to stdout."""
        self.home.mkdir(exist_ok=True)
        words = [str(word) for word in command]
        environment = self.environment() | more
        done = subprocess.run(words, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode and not may_fail:
            said = done.stderr or done.stdout  # the doctor answers on stdout, for good and for bad
            raise subprocess.CalledProcessError(done.returncode, words, done.stdout, said[-2000:])
        return done.returncode, done.stdout

    def environment(self) -> dict[str, str]:
        """Return what such a person's shell has."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
        return kept | {"PATH": os.defpath, "HOME": str(self.home)}

    def measure(self, folder: Path) -> None:
        """Take down how much an installation takes on the disk; a file with several names counts once."""
        found = {(about.st_dev, about.st_ino): about.st_size for about in _files(folder)}
        self.installed_bytes = sum(found.values())

    def say_what_is_left(self, *of_installers: Path, found: set[Path] | None = None) -> None:
        """Take down what is in the home after the removal; only the user's own, and others' caches, may be there."""
        if found is None:
            there = (path for path in self.home.rglob("*") if path.is_file() or path.is_symlink())
            found = {path.relative_to(self.home) for path in there}
        users = {path for path in found if "qlora-studio" in path.parts[:3]}
        installers = {
            path for path in found - users if any((self.home / path).is_relative_to(at) for at in of_installers)
        }
        caches = {path for path in found - users - installers if str(path).startswith(_NOT_OURS)}
        own = (".log", ".lock")  # what an installer keeps of its own work, by the program's name
        named = {path for path in installers if "qlora" in str(path).lower()}
        ours = {path for path in named if not any(end in path.name for end in own)}
        strange = sorted(map(str, found - users - installers - caches | ours))
        assert strange == [], f"Left behind in the home: {', '.join(strange[:9])}"
        self.left = f"of the user's own {_folders(users)}" if users else "nothing"


def megabytes(count: int) -> str:
    """Return bytes as MB."""
    return f"{count / 1e6:,.1f}" if 0 < count < 1e7 else f"{count / 1e6:,.0f}" if count else ""


def _files(folder: Path) -> Iterable[os.stat_result]:
    return (path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _folders(paths: set[Path]) -> str:
    own = (path.parts[: path.parts.index("qlora-studio") + 1] for path in paths)
    return ", ".join(sorted({"/".join(("~", *parts)) for parts in own}))
