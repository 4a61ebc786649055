"""What the GPU panel says of several cards that train one run together, as values. Pure."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qlora_studio.core.config.run_config import ALL_CARDS, RunConfig, means_several
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.ranks import mended_shares, uneven
from qlora_studio.core.words import say
from qlora_studio.jobs.gpu_sample import GpuCard, GpuSample
from qlora_studio.ui.memory.view import BarView, card_bar, free_text, program_lines

_FEWEST_TO_CHOOSE = 3  # of two, both together is the one choice that there is


@dataclass(frozen=True)
class CardCheck:
    """A card that may train together with others: its UUID, its words, and whether it does."""

    uuid: str
    words: str
    is_on: bool


def together_title(sample: GpuSample) -> tuple[str, str]:
    """Return what cards that train together are called, and a line about them."""
    cards = sample.together
    names = list(dict.fromkeys(card.name for card in cards))
    title = f"{len(cards)} × {names[0]}" if len(names) == 1 else say("{count} cards together", count=len(cards))
    facts = [] if len(names) == 1 else [", ".join(map(_short, names))]
    sizes = {card.total_bytes for card in cards}
    if len(sizes) == 1 and cards[0].total_bytes:
        facts.append(say("{size} each", size=bytes_text(cards[0].total_bytes)))
    facts += [say("driver {driver}", driver=sample.driver)] if sample.driver else []
    troubles = [card.unusable for card in cards if card.unusable][:1]
    return title, "\n".join([" · ".join(facts), *troubles])


def together_bars(sample: GpuSample) -> tuple[BarView, ...]:
    """Return what is in use on each card now, and how it is."""
    is_one_kind = len({card.name for card in sample.together}) == 1
    return tuple(_bar(card, is_one_kind) for card in sample.together)


def together_programs(sample: GpuSample) -> tuple[tuple[str, str], ...]:
    """Return the other programs on each card, and what each holds there."""
    return tuple(
        (say("GPU {index}: {name}", index=card.index, name=name), size)
        for card in sample.together
        for name, size in program_lines(card)
    )


def card_checks(cards: Sequence[GpuCard], wish: str) -> tuple[CardCheck, ...]:
    """Return the cards of which some may be chosen to train together; none where there is nothing to choose."""
    if len(cards) < _FEWEST_TO_CHOOSE or not means_several(wish) or sys.platform != "linux":
        return ()
    return tuple(CardCheck(card.uuid, f"{_named(card)}, {free_text(card)}", _is_meant(card, wish)) for card in cards)


def wish_of(checks: Sequence[tuple[str, bool]]) -> str:
    """Return the `hardware.gpus` of the cards that are on, by UUID; empty where none is."""
    chosen = [uuid for uuid, is_on in checks if is_on]
    return ALL_CARDS if len(chosen) == len(checks) else ",".join(chosen)


def uneven_advice(config: RunConfig, cards: int) -> tuple[str, str, dict[str, Any]] | None:
    """Return why a step does not come out even over the cards, and what mends it, in words and values; or None."""
    if not (why := uneven(config, cards)):
        return None
    batch, accumulation = mended_shares(config, cards)
    rows = batch * accumulation
    words = say("Batch {batch} × {accumulation}", batch=batch, accumulation=accumulation)
    if rows == config.effective_batch:
        words = say("{setting}: a step has {rows:,} rows, as now", setting=words, rows=rows)
    else:
        was = config.effective_batch
        words = say("{setting}: a step has {rows:,} rows in place of {was:,}", setting=words, rows=rows, was=was)
    return why, words, {"training.batch_size": batch, "training.gradient_accumulation": accumulation}


def _bar(card: GpuSample, is_one_kind: bool) -> BarView:
    name = say("GPU {index}", index=card.index) if is_one_kind else f"GPU {card.index}: {_short(card.name)}"
    if not card.available:
        return BarView(name, say("does not answer"), "", (), 1, " ")
    bar = card_bar(card)
    return BarView(name, bar.value, bar.after, bar.parts, bar.total, _how_it_is(card))


def _how_it_is(card: GpuSample) -> str:
    facts = []
    if card.utilisation_percent is not None:
        facts.append(f"{card.utilisation_percent} %")
    if card.temperature_celsius is not None:
        facts.append(f"{card.temperature_celsius} °C")
    if card.power_watts is not None:
        facts.append(f"{card.power_watts:.0f} W")
    if card.throttling:
        facts.append(say("slowed by {throttling}", throttling=", ".join(card.throttling)))
    return " · ".join(facts) or say("The driver tells no more of it.")


def _named(card: GpuCard) -> str:
    return say("GPU {index}: {name}", index=card.index, name=_short(card.name))


def _short(name: str) -> str:
    return name.removeprefix("NVIDIA ").removeprefix("GeForce ")


def _is_meant(card: GpuCard, wish: str) -> bool:
    return wish == ALL_CARDS or any(
        str(card.index) == name if name.isdecimal() else card.uuid.startswith(name) for name in wish.split(",")
    )
