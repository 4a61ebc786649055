"""Whether a run fits on a card, and which single changes would save memory, the most first. Sizes are bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from qlora_studio.core.config.optimizer import LIGHTEST
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.quantity import MIB, bytes_text
from qlora_studio.core.words import say

SMALLEST_MARGIN = 300 * MIB
_TIGHT_SHARE = 1.02
_LENGTH_STEP, _RANK_STEP = 64, 8
_SHORTEST_LENGTH, _LONGEST_LENGTH = 128, 1_048_576
_LARGEST_BATCH, _LARGEST_RANK = 512, 1024
_LARGEST_SETTING = 4096  # of batch and accumulation
Knob = Literal["batch", "length", "rank"]
_SHORT_ROW = 16  # tokens
_LEAST_SAVING = 32 * MIB
_SHORTEST_SAVING_LENGTH = 256
_LOWEST_RANK = 8


class FitVerdict(StrEnum):
    """Whether a run fits: surely, only just, or not."""

    FITS = "fits"
    TIGHT = "tight"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Fit:
    """The judgement of an estimate on a card. `spare_bytes` is below 0 where something is missing."""

    verdict: FitVerdict
    needed_bytes: int
    free_bytes: int

    @property
    def spare_bytes(self) -> int:
        """What is left over, or missing, for a run that surely fits."""
        return self.free_bytes - self.needed_bytes


@dataclass(frozen=True)
class Proposal:
    """A config that fits, or comes nearest, and what was changed to get there: new values by `section.field`."""

    config: RunConfig
    changes: dict[str, Any]
    estimate: Estimate
    fit: Fit


def judge(estimate: Estimate, free_bytes: int) -> Fit:
    """Return whether an estimated run fits into what NVML shows as free now.

    It surely fits where it would also fit if it took as much more as the estimate may be wrong by, 300 MiB at least: an
    estimate that is under is the dangerous one. It is tight as long as what is allocated would fit: then the allocator
    must use every gap, and paged optimizer state may have to leave the card.
    """
    needed = estimate.total_bytes + max(round(estimate.error_share * estimate.total_bytes), SMALLEST_MARGIN)
    least = round(_TIGHT_SHARE * estimate.allocated_bytes) + estimate.context_bytes
    if free_bytes >= needed:
        return Fit(FitVerdict.FITS, needed, free_bytes)
    return Fit(FitVerdict.TIGHT if free_bytes >= least else FitVerdict.NO, needed, free_bytes)


def least_bytes(config: RunConfig, shape: ModelShape, *, on_card: bool) -> int:
    """Return what a run takes however its rows are: base, adapters and a step on one short row, all reckoned low."""
    found = estimate(split_batch(config, 1), shape, row_tokens=_SHORT_ROW, context_bytes=None if on_card else 0)
    return round((1 - found.error_share) * found.allocated_bytes) + found.context_bytes


def largest(
    knob: Knob, config: RunConfig, shape: ModelShape, free_bytes: int, *, context_bytes: int | None = None
) -> int:
    """Return the largest batch, length or rank that surely fits, all else as in the config; 0 where none does."""
    step, most = {
        "batch": (1, _LARGEST_BATCH),
        "length": (_LENGTH_STEP, min(shape.context_length or _LONGEST_LENGTH, _LONGEST_LENGTH)),
        "rank": (_RANK_STEP, _LARGEST_RANK),
    }[knob]
    low, high = 0, most // step
    while low < high:
        middle = (low + high + 1) // 2
        fits = fits_surely(turned(config, knob, middle * step), shape, free_bytes, context_bytes)
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * step


def fit_to_gpu(config: RunConfig, shape: ModelShape, free_bytes: int, *, context_bytes: int | None = None) -> Proposal:
    """Return a config that fits into `free_bytes`, with the same effective batch and as little changed as possible.

    First goes what costs time alone, then what costs the optimizer's precision, then rank, and the length of rows last,
    since it cuts data.
    """
    proposed = config
    for ease in (_checkpoint, _split_batch, _quantize, _page_in_8_bit, _lower_rank, _shorten):
        if fits_surely(proposed, shape, free_bytes, context_bytes):
            break
        proposed = ease(proposed, shape, free_bytes, context_bytes)
    result = estimate(proposed, shape, context_bytes=context_bytes)
    return Proposal(proposed, changes_between(config, proposed), result, judge(result, free_bytes))


def fits_surely(config: RunConfig, shape: ModelShape, free_bytes: int, context_bytes: int | None = None) -> bool:
    """Whether a config's instant estimate fits with the margin."""
    found = estimate(config, shape, context_bytes=context_bytes)
    return judge(found, free_bytes).verdict is FitVerdict.FITS


def turned(config: RunConfig, knob: Knob, value: int) -> RunConfig:
    """Return the config with a knob turned. The effective batch changes with the batch; see `split_batch` for both."""
    match knob:
        case "batch":
            return _with(config, "training", batch_size=value)
        case "length":
            return _with(config, "training", max_length=value)
        case "rank":
            return _with(config, "lora", rank=value)


def split_batch(config: RunConfig, batch: int) -> RunConfig:
    """Return the config with a smaller batch on the card and the same effective one. `batch` must divide it."""
    accumulation = config.effective_batch // batch
    return _with(config, "training", batch_size=batch, gradient_accumulation=accumulation)


def possible_batches(config: RunConfig) -> list[int]:
    """Return the batches that divide the effective one, and leave an accumulation that the settings take."""
    effective = config.effective_batch
    sizes = range(1, min(effective, _LARGEST_SETTING) + 1)
    return [size for size in sizes if effective % size == 0 and effective // size <= _LARGEST_SETTING]


def changes_between(old: RunConfig, new: RunConfig) -> dict[str, Any]:
    """Return the values of `new` that differ from `old`, by `section.field`."""
    before, after = old.model_dump(), new.model_dump()
    return {
        f"{section}.{name}": value
        for section, values in after.items()
        if isinstance(values, dict)
        for name, value in values.items()
        if before[section][name] != value
    }


def _checkpoint(config: RunConfig, shape: ModelShape, free_bytes: int, context_bytes: int | None) -> RunConfig:
    if config.training.gradient_checkpointing != "off":
        return config
    return _with(config, "training", gradient_checkpointing="auto")


def _split_batch(config: RunConfig, shape: ModelShape, free_bytes: int, context_bytes: int | None) -> RunConfig:
    smaller = [size for size in possible_batches(config) if size <= config.training.batch_size]
    for size in reversed(smaller):
        proposed = split_batch(config, size)
        if fits_surely(proposed, shape, free_bytes, context_bytes):
            return proposed
    return split_batch(config, smaller[0])


def _quantize(config: RunConfig, shape: ModelShape, free_bytes: int, context_bytes: int | None) -> RunConfig:
    method = "nf4" if config.quantization.method == "none" else config.quantization.method
    return _with(config, "quantization", method=method, double=True)


def _page_in_8_bit(config: RunConfig, shape: ModelShape, free_bytes: int, context_bytes: int | None) -> RunConfig:
    return _with(config, "training", optimizer=LIGHTEST)


def _lower_rank(config: RunConfig, shape: ModelShape, free_bytes: int, context_bytes: int | None) -> RunConfig:
    share = config.lora.alpha / config.lora.rank
    if config.lora.start_from:  # brings its rank
        return config
    while config.lora.rank > 8 and not fits_surely(config, shape, free_bytes, context_bytes):
        rank = max(8, config.lora.rank // 2)
        config = _with(config, "lora", rank=rank, alpha=max(1, round(share * rank)))
    return config


def _shorten(config: RunConfig, shape: ModelShape, free_bytes: int, context_bytes: int | None) -> RunConfig:
    length = largest("length", config, shape, free_bytes, context_bytes=context_bytes)
    return turned(config, "length", max(min(length, config.training.max_length), _SHORTEST_LENGTH))


def _with(config: RunConfig, section: str, **values: Any) -> RunConfig:
    changed = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: changed})


@dataclass(frozen=True)
class MemorySaving:
    """A change, in words and as values by `section.field`, and the bytes that it saves."""

    text: str
    saves_bytes: int
    change: dict[str, Any]


def memory_savings(
    config: RunConfig, shape: ModelShape, *, row_tokens: int | None = None, context_bytes: int | None = None
) -> tuple[MemorySaving, ...]:
    """Return the changes that save memory, the most first. The effective batch stays what it is."""
    now = estimate(config, shape, row_tokens=row_tokens, context_bytes=context_bytes).total_bytes
    found = []
    for text, changed in _candidates(config):
        saved = now - estimate(changed, shape, row_tokens=row_tokens, context_bytes=context_bytes).total_bytes
        if saved >= _LEAST_SAVING:
            found.append(
                MemorySaving(
                    say("{text} saves {saved}", text=text, saved=bytes_text(saved)),
                    saved,
                    changes_between(config, changed),
                )
            )
    return tuple(sorted(found, key=lambda saving: -saving.saves_bytes))


def _candidates(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    training, lora, quantization = config.training, config.lora, config.quantization
    length = max(_SHORTEST_SAVING_LENGTH, training.max_length // 2)
    if length < training.max_length:
        yield (
            say("Max length {max_length} → {length}", max_length=training.max_length, length=length),
            _with(config, "training", max_length=length),
        )
    if smaller := [size for size in possible_batches(config) if size <= training.batch_size // 2]:
        batch = smaller[-1]
        accumulation = config.effective_batch // batch
        split = {"batch_size": batch, "gradient_accumulation": accumulation}
        text = say(
            "Batch {batch_size} → {batch}, accumulation {gradient_accumulation} → {accumulation},",
            batch_size=training.batch_size,
            batch=batch,
            gradient_accumulation=training.gradient_accumulation,
            accumulation=accumulation,
        )
        yield text, _with(config, "training", **split)
    if training.gradient_checkpointing == "off":
        yield say("Gradient checkpointing on"), _with(config, "training", gradient_checkpointing="on")
    if quantization.method == "none":
        yield say("4-bit NF4 base"), _with(config, "quantization", method="nf4", double=True)
    elif not quantization.double:
        yield say("Double quantization"), _with(config, "quantization", double=True)
    if lora.rank > _LOWEST_RANK and not lora.start_from:
        rank = max(_LOWEST_RANK, lora.rank // 2)
        alpha = max(1, round(lora.alpha * rank / lora.rank))
        yield (
            say("LoRA rank {old} → {rank}", old=lora.rank, rank=rank),
            _with(config, "lora", rank=rank, alpha=alpha),
        )
    if training.optimizer != LIGHTEST:
        yield say("8-bit optimizer"), _with(config, "training", optimizer=LIGHTEST)
    if lora.dropout > 0:
        yield say("LoRA dropout 0"), _with(config, "lora", dropout=0.0)
    if lora.dora and not lora.start_from:
        yield say("Without DoRA,"), _with(config, "lora", dora=False)
