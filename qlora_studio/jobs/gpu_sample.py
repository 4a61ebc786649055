"""What was measured of a graphics card at one moment. Sizes are bytes; every metric may be missing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GpuProcess:
    """A program that holds memory of the card; Windows does not tell how much."""

    pid: int
    name: str
    used_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class GpuSample:
    """One card at one moment; `available` is False where there is none, and `reason` says why in words.

    `cards` are all that answer; a card that was measured before and answers no more `is_lost`. `unusable` is why runs
    cannot compute on it, and what to do, in words. Where several train one run, `together` has a sample of each.

    `others` are the programs beside ours; WSL2's driver lists none, and `others_told` is False.
    `used_bytes` leaves out what the driver keeps for itself (`reserved_bytes`): total = used + reserved + free.
    """

    available: bool
    reason: str = ""
    time: float = 0.0
    index: int | None = None
    uuid: str = ""
    name: str = ""
    driver: str | None = None
    total_bytes: int | None = None
    used_bytes: int | None = None
    reserved_bytes: int | None = None
    free_bytes: int | None = None
    worker_bytes: int | None = None
    other_bytes: int | None = None
    others: tuple[GpuProcess, ...] = ()
    others_told: bool = True
    utilisation_percent: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    throttling: tuple[str, ...] | None = None
    compute_capability: tuple[int, int] | None = None
    cards: "tuple[GpuCard, ...]" = ()
    together: "tuple[GpuSample, ...]" = ()
    is_lost: bool = False
    unusable: str = ""


@dataclass(frozen=True)
class GpuCard:
    """A card of this machine, as the user chooses among them. `index` counts as the driver does: by PCI bus."""

    index: int
    uuid: str
    name: str
    total_bytes: int | None
    free_bytes: int | None = None
