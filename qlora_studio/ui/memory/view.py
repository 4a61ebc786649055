"""What the GPU panel says, as values: parts of bars, words, and whether a run fits. Pure; sizes are bytes."""

import sys
from collections import Counter
from dataclasses import dataclass

from qlora_studio.core.config.run_config import ALL_CARDS, AUTO_CARD, CPU, all_settings, means_several
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.fastest import FastestFit
from qlora_studio.core.memory.fit import FitVerdict
from qlora_studio.core.quantity import GIB, MIB, bytes_text
from qlora_studio.core.words import say
from qlora_studio.jobs.gpu_sample import GpuCard, GpuSample
from qlora_studio.jobs.process_memory import ProcessMemory
from qlora_studio.ui.kit.charts import Part

_TOKENS = {
    "weights": "weights",
    "adapter": "adapter",
    "optimizer": "optimizer",
    "activations": "activations",
    "logits": "logits",
    "context": "context",
}


FIT_WORDS = {
    FitVerdict.FITS: (say("fits"), "ok"),
    FitVerdict.TIGHT: (say("tight"), "warn"),
    FitVerdict.NO: (say("does not fit"), "bad"),
}


_LOST_ADVICE = say(
    "Its driver lost it: a cable, heat, too little power, or a fault of the driver. The run's "
    "checkpoints are safe. Restart the computer, then resume."
)


_TOLD_BY_WORDS = ("batch_size", "gradient_accumulation", "gradient_checkpointing", "checkpointed_layers")
_NOT_TOLD = say("not told by this driver")
_WORTH_A_LINE = 64 * MIB


@dataclass(frozen=True)
class BarView:
    """A bar with the words beside it. `rows` are the legend: label, size, colour token."""

    title: str
    value: str
    after: str
    parts: tuple[Part, ...]
    total: int
    note: str = ""

    @property
    def text(self) -> str:
        """The bar in words, for its tooltip and for screen readers."""
        parts = ", ".join(f"{part.label} {bytes_text(int(part.value))}" for part in self.parts)
        return f"{self.title}: {self.value} {self.after}. {parts}"


def available_bytes(sample: GpuSample) -> int | None:
    """Return what a run can have of a card: everything that the driver and other programs do not hold.

    None where there is no card, or none that runs can compute on.
    """
    if not sample.available or sample.unusable or sample.total_bytes is None:
        return None
    return sample.total_bytes - (sample.reserved_bytes or 0) - (sample.other_bytes or 0)


def estimate_bar(estimate: Estimate, total: int, title: str = "Estimate") -> BarView:
    """Return the bar of an estimate on a scale from 0 to `total`."""
    parts = tuple(
        Part(component.label, component.bytes, _TOKENS.get(component.key, "other")) for component in estimate.components
    )
    sign = "≈ " if estimate.level == "instant" else ""
    return BarView(title, sign + bytes_text(estimate.total_bytes), "", parts, total, " ".join(estimate.notes))


def estimate_title(estimate: Estimate, assumed: str, wish: str = "", *, here: bool = True) -> str:
    """Return what the estimate is for: the card `here`, each of several, one that is assumed, or any."""
    if assumed:
        return say("Estimate on {assumed}", assumed=assumed)
    if means_several(wish) and here:
        return say("Estimate, for each card")
    if estimate.level == "probed":
        return say("Estimate, probed")
    return say("Estimate") if here else say("Estimate, on a card")


def card_bar(sample: GpuSample) -> BarView:
    """Return what is in use on the card now: this run, other programs, the driver."""
    total = sample.total_bytes or 0
    if sample.used_bytes is None:
        return BarView(
            say("Now"), say("not told"), "", (), max(total, 1), say("The driver does not tell how much is in use.")
        )
    sizes = (
        (say("this run"), sample.worker_bytes or 0, "weights"),
        (_others(sample), sample.other_bytes or 0, "other"),
        (say("reserved"), sample.reserved_bytes or 0, "context"),
    )
    parts = tuple(Part(label, size, token) for label, size, token in sizes if size)
    used = sample.used_bytes + (sample.reserved_bytes or 0)
    note = " · ".join(f"{part.label} {_gib(part.value)}" for part in parts) or say("free")
    return BarView(say("Now"), bytes_text(used), say("of {size}", size=_gib(total)), parts, max(total, 1), note)


def program_lines(sample: GpuSample) -> tuple[tuple[str, str], ...]:
    """Return the other programs on the card and what each holds, and what more is held that no program is named for."""
    if not sample.others_told:
        return ((say("Other programs"), _NOT_TOLD),) if sample.other_bytes else ()
    names = Counter(process.name for process in sample.others)
    lines = [
        (
            f"{process.name} ({process.pid})" if names[process.name] > 1 else process.name,
            _NOT_TOLD if process.used_bytes is None else bytes_text(process.used_bytes),
        )
        for process in sample.others
    ]
    sizes = [process.used_bytes for process in sample.others]
    rest = 0 if None in sizes else (sample.other_bytes or 0) - sum(filter(None, sizes))
    return tuple([*lines, (say("Not attributed"), bytes_text(rest))] if rest >= _WORTH_A_LINE else lines)


def machine_bar(memory: ProcessMemory) -> BarView:
    """Return what is in use of the machine's own memory: this run and the rest."""
    total, worker = memory.machine_total_bytes, memory.worker_bytes or 0
    used = total - memory.machine_available_bytes
    rest = max(0, used - worker)
    parts = tuple(
        Part(label, size, token)
        for label, size, token in ((say("this run"), worker, "weights"), (say("other programs"), rest, "other"))
        if size
    )
    note = " · ".join(f"{part.label} {_gib(part.value)}" for part in parts)
    return BarView(say("This computer"), bytes_text(used), say("of {size}", size=_gib(total)), parts, total, note)


def card_title(sample: GpuSample) -> tuple[str, str]:
    """Return the card's name and a line about it; without a card, what is missing and why."""
    if sample.is_lost:
        return sample.name or say("The card"), say("It stopped answering. {lost_advice}", lost_advice=_LOST_ADVICE)
    if not sample.available:
        if sample.cards:
            return say("No card in use"), sample.reason
        return say("No NVIDIA card"), say("{reason} Runs are trained on the processor.", reason=sample.reason).strip()
    facts = [bytes_text(sample.total_bytes)] if sample.total_bytes else []
    facts += [say("driver {driver}", driver=sample.driver)] if sample.driver else []
    facts += [say("GPU {index}", index=sample.index)] if sample.index is not None else []
    facts += [say("slowed by {throttling}", throttling=", ".join(sample.throttling))] if sample.throttling else []
    line = " · ".join(facts)
    return sample.name, f"{line}\n{sample.unusable}" if sample.unusable else line


def card_choices(sample: GpuSample, wish: str) -> dict[str, str]:
    """Return what may be trained on, by `hardware.gpus`; nothing where there is nothing to choose."""
    if len(sample.cards) < 2 and wish == AUTO_CARD:
        return {}
    cards = {
        card.uuid: say("GPU {index}: {name}, {free}", index=card.index, name=card.name, free=free_text(card))
        for card in sample.cards
    }
    together = {ALL_CARDS: _together(len(sample.cards))} if len(sample.cards) > 1 and sys.platform == "linux" else {}
    choices = {AUTO_CARD: say("Auto: the freest card"), **cards, **together, CPU: say("The processor")}
    if wish in choices:
        return choices
    if means_several(wish):
        return {**choices, wish: _several(sample, wish)}
    return {
        **choices,
        wish: say("GPU {wish}", wish=wish) if wish.isdecimal() else say("{wish}, not seen here", wish=wish),
    }


def measured_text(estimate: Estimate, measured: int) -> tuple[str, str]:
    """Return the largest measured use beside the estimate, and a tone: warn where it was more than the error allows."""
    share = measured / estimate.total_bytes - 1 if estimate.total_bytes else 0.0
    measured_text, apart = bytes_text(measured), abs(share)
    if share < 0:
        words = say("Measured at most {measured}, {share:.1%} under the estimate", measured=measured_text, share=apart)
    else:
        words = say("Measured at most {measured}, {share:.1%} over the estimate", measured=measured_text, share=apart)
    tone = "warn" if share > estimate.error_share else "ok"
    return words, tone


def is_worth_it(found: FastestFit) -> bool:
    """Whether settings were found that fit where those that are there do not, or that are faster."""
    return bool(found.proposal.changes) and found.proposal.fit.verdict is FitVerdict.FITS


def fit_text(found: FastestFit) -> str:
    """Return what is proposed, and why: first what changes beside batch and checkpointing."""
    titles = {info.path: info.title for info in all_settings()}
    more = [
        f"{titles[path]} {value}"
        for path, value in found.proposal.changes.items()
        if path.split(".")[-1] not in _TOLD_BY_WORDS
    ]
    training = found.proposal.config.training
    words = found.words or say(
        "Batch {batch_size} × {gradient_accumulation}",
        batch_size=training.batch_size,
        gradient_accumulation=training.gradient_accumulation,
    )
    return ". ".join(part for part in (", ".join(more), words) if part) + "."


def legend_text(size: int, total: int) -> str:
    """Return a component's size in the unit that suits the total, so that the column lines up."""
    if total >= 4 * GIB and 0 < size < GIB / 200:
        return say("< 0.01 GiB")
    return say("{size:.2f} GiB", size=size / GIB) if total >= 4 * GIB else say("{size:,.0f} MiB", size=size / MIB)


def free_text(card: GpuCard) -> str:
    """Return how much of a card is free, where that is told."""
    return (
        say("{free_bytes} free", free_bytes=bytes_text(card.free_bytes))
        if card.free_bytes is not None
        else say("free memory not told")
    )


def _several(sample: GpuSample, wish: str) -> str:
    """Say of a wish for several cards how many there are, and whether they are here."""
    if wish == ALL_CARDS and len(sample.cards) < 2:
        return say("All cards: one is here") if sample.cards or sample.available else say("All cards: none is here")
    names = {name for card in sample.cards for name in (card.uuid, str(card.index))}
    count = len(sample.cards) if wish == ALL_CARDS else wish.count(",") + 1
    if wish != ALL_CARDS and not names.issuperset(wish.split(",")):
        return say("{count} cards, not all seen here", count=count)
    return _together(count)


def _together(count: int) -> str:
    return say("Both cards together") if count == 2 else say("{count} cards together", count=count)


def _others(sample: GpuSample) -> str:
    names = list(dict.fromkeys(process.name for process in sample.others))
    if not names:
        return say("other programs")
    first = ", ".join(names[:2])
    return say("{names} and {more} more", names=first, more=len(names) - 2) if len(names) > 2 else first


def _gib(size: float) -> str:
    return say("{size:.1f} GiB", size=size / GIB)
