"""What the card takes while it trains: by its own counter, else by its readings of power, else not told at all."""

import time
from collections.abc import Callable
from typing import Any

import pynvml


class EnergyMeter:
    """Counts the energy of cards from now on, by their UUIDs: of all together, or nothing where one does not tell."""

    def __init__(self, *uuids: str) -> None:
        self._cards = [_CardMeter(uuid) for uuid in uuids]

    def joules(self) -> float | None:
        """Return what they took since this was made; None where one does not tell, now or ever, or there are none."""
        told = [card.joules() for card in self._cards]
        known = [joules for joules in told if joules is not None]
        return sum(known) if told and len(known) == len(told) else None


class _CardMeter:
    def __init__(self, uuid: str) -> None:
        self._card = _card(uuid)
        self._at_first = self._told(pynvml.nvmlDeviceGetTotalEnergyConsumption)
        self._power = self._told(pynvml.nvmlDeviceGetPowerUsage)
        self._summed = 0.0
        self._since = time.monotonic()

    def joules(self) -> float | None:
        if self._at_first is None:  # cards before Volta have no counter
            return self._by_power()
        counted = self._told(pynvml.nvmlDeviceGetTotalEnergyConsumption)
        if counted is None or counted < self._at_first:  # a card that was reset begins at 0
            return None
        return (counted - self._at_first) / 1000

    def _by_power(self) -> float | None:
        """Add the time since the last question, at the mean of the power then and now."""
        power = self._told(pynvml.nvmlDeviceGetPowerUsage)
        if power is None or self._power is None:
            return None
        now = time.monotonic()
        self._summed += (self._power + power) / 2 / 1000 * (now - self._since)
        self._power, self._since = power, now
        return self._summed

    def _told(self, ask: Callable[[Any], int]) -> int | None:
        if self._card is None:
            return None
        try:
            return int(ask(self._card))
        except pynvml.NVMLError:
            return None


def _card(uuid: str) -> Any:
    """Return the library's name for a card. The library stays open for as long as the process lives."""
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        return None
