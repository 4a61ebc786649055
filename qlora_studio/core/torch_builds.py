"""Which build of PyTorch goes with a computer's cards and driver. The standard library alone reads this file.

Whoever installs PyTorch asks here, before there is one: the bootstrap of packages, the doctor, the recipes. What is
asked is what a driver tells: its version, which CUDA it knows, and each card's compute capability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qlora_studio.core.words import say

OLDEST_CAPABILITY = (7, 5)  # Turing: the RTX 20 series
PROCESSOR = "cpu"
_INDEX = "https://download.pytorch.org/whl/"
_NEWEST_DRIVER = say("Install NVIDIA's newest driver and restart the computer.")
_WINDOWS_DRIVER = say("Install NVIDIA's newest driver in Windows, none in WSL, and run: wsl --shutdown")
_NEWER_VERSION = say("Install a newer version of QLoRA Studio.")

System = Literal["linux", "windows", "wsl"]
Capability = tuple[int, int]


@dataclass(frozen=True)
class TorchBuild:
    """A build that PyTorch publishes: which cards it has kernels for, and the least driver, Linux's and Windows's.

    Within a major version of CUDA, an older driver serves newer libraries: NVIDIA's minor version compatibility.
    """

    name: str
    cuda: str
    oldest: Capability
    newest: Capability
    linux_driver: tuple[int, ...]
    windows_driver: tuple[int, ...]

    @property
    def index(self) -> str:
        """Return where pip finds it: `--index-url`."""
        return index_of(self.name)

    def carries(self, capability: Capability) -> bool:
        """Whether it computes on a card of this compute capability."""
        return self.oldest <= capability <= self.newest

    def runs_on(self, driver: tuple[int, ...], system: System) -> bool:
        """Whether this driver is new enough; WSL's has Windows's number."""
        return driver >= (self.linux_driver if system == "linux" else self.windows_driver)


# Of PyTorch 2.13, as its own release matrix has them; the newest that is called stable goes first. CUDA 13.2 is
# published too, as an experiment, and needs no older driver than 13.0.
BUILDS = (
    TorchBuild("cu130", "13.0", (7, 5), (12, 9), (580, 65, 6), (580, 88)),
    TorchBuild("cu126", "12.6", (5, 0), (9, 0), (525, 60, 13), (528, 33)),
)


@dataclass(frozen=True)
class Machine:
    """What a driver tells: its version, empty where it tells none, and each card's compute capability."""

    system: System
    driver: str = ""
    cards: tuple[Capability, ...] = ()


@dataclass(frozen=True)
class Choice:
    """The build to install, by its name in PyTorch's index, and why. `problem` keeps a card from being used."""

    build: str
    why: str
    problem: str = ""
    advice: str = ""

    @property
    def index(self) -> str:
        """Return where pip finds it: `--index-url`."""
        return index_of(self.build)


def index_of(build: str) -> str:
    """Return the address of PyTorch's own index for a build."""
    return _INDEX + build


def choose_build(machine: Machine) -> Choice:
    """Return the build that uses most of the cards; the processor's where none can be used, with what to do."""
    usable = [card for card in machine.cards if card >= OLDEST_CAPABILITY]
    if not machine.cards:
        return Choice(PROCESSOR, say("There is no NVIDIA card that a driver tells of."))
    if not usable:
        problem = say("The card is too old: one of the RTX 20 series or newer is needed.")
        return Choice(PROCESSOR, problem, problem)
    driver = _numbers(machine.driver)
    served = [build for build in BUILDS if not driver or build.runs_on(driver, machine.system)]
    best = max(served, key=lambda build: sum(map(build.carries, usable)), default=None)
    left = [card for card in usable if best is None or not best.carries(card)]
    problem, advice = _too_old(machine, left) if left else ("", "")
    if best is None or len(left) == len(usable):
        return Choice(PROCESSOR, problem, problem, advice)
    why = say("The driver, {driver}, serves CUDA {cuda}.", driver=machine.driver or "?", cuda=best.cuda)
    return Choice(best.name, why, problem, advice)


def build_of_cuda(cuda: str) -> TorchBuild | None:
    """Return the build for a version of CUDA, as PyTorch names it: `13.0`. None where the table has none."""
    return next((build for build in BUILDS if build.cuda == cuda), None)


def machine_from_smi(text: str, system: System) -> Machine:
    """Return what `nvidia-smi --query-gpu=driver_version,compute_cap --format=csv,noheader` said."""
    rows = [[part.strip() for part in line.split(",")] for line in text.splitlines() if line.count(",") == 1]
    cards = [(driver, _numbers(capability)) for driver, capability in rows]
    known = tuple((numbers[0], numbers[1]) for _, numbers in cards if len(numbers) == 2)
    return Machine(system, next((driver for driver, _ in cards if _numbers(driver)), ""), known)


def system_of(platform: str, kernel: str) -> System:
    """Return which system this is, by `sys.platform` and the kernel's release: WSL's kernel says that it is one."""
    if platform == "win32":
        return "windows"
    return "wsl" if "microsoft" in kernel.lower() else "linux"


def _too_old(machine: Machine, cards: Sequence[Capability]) -> tuple[str, str]:
    """Return what is wrong where no build that this driver serves has kernels for these cards, and what to do."""
    needed = next((build for build in BUILDS if all(map(build.carries, cards))), None)
    if needed is None:
        return say("The card is newer than the builds of PyTorch that this version knows."), _NEWER_VERSION
    least = needed.linux_driver if machine.system == "linux" else needed.windows_driver
    problem = say(
        "The driver, {driver}, is too old for the card: at least {least} is needed.",
        driver=machine.driver,
        least=".".join(f"{part:02}" if place else str(part) for place, part in enumerate(least)),
    )
    return problem, _WINDOWS_DRIVER if machine.system == "wsl" else _NEWEST_DRIVER


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version; none where it is no version."""
    parts = text.split(".")
    return tuple(map(int, parts)) if all(part.isascii() and part.isdigit() for part in parts) else ()
