"""Levers: single changes that save graphics memory, with what each one saves, the most first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fit import changes_between
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.quantity import MIB, bytes_text
from qlora_studio.core.run.run_config import RunConfig

_LEAST_SAVING = 32 * MIB
_SHORTEST_LENGTH = 256
_LOWEST_RANK = 8


@dataclass(frozen=True)
class Lever:
    """A change, in words and as values by `section.field`, and the bytes that it saves."""

    text: str
    saves_bytes: int
    change: dict[str, Any]


def levers(
    config: RunConfig, shape: ModelShape, *, row_tokens: int | None = None, context_bytes: int | None = None
) -> tuple[Lever, ...]:
    """Return the changes that save memory, the most first. The effective batch stays what it is."""
    now = estimate(config, shape, row_tokens=row_tokens, context_bytes=context_bytes).total_bytes
    found = []
    for text, changed in _candidates(config):
        saved = now - estimate(changed, shape, row_tokens=row_tokens, context_bytes=context_bytes).total_bytes
        if saved >= _LEAST_SAVING:
            found.append(Lever(f"{text} saves {bytes_text(saved)}", saved, changes_between(config, changed)))
    return tuple(sorted(found, key=lambda lever: -lever.saves_bytes))


def _candidates(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    training, lora, quantization = config.training, config.lora, config.quantization
    length = max(_SHORTEST_LENGTH, training.max_length // 2)
    if length < training.max_length:
        yield f"Max length {training.max_length} → {length}", _with(config, "training", max_length=length)
    if training.batch_size > 1:
        batch = next(size for size in range(training.batch_size // 2, 0, -1) if config.effective_batch % size == 0)
        accumulation = config.effective_batch // batch
        split = {"batch_size": batch, "gradient_accumulation": accumulation}
        text = f"Batch {training.batch_size} → {batch}, accumulation {training.gradient_accumulation} → {accumulation},"
        yield text, _with(config, "training", **split)
    if training.gradient_checkpointing == "off":
        yield "Gradient checkpointing on", _with(config, "training", gradient_checkpointing="on")
    if quantization.method == "none":
        yield "4-bit NF4 base", _with(config, "quantization", method="nf4", double=True)
    elif not quantization.double:
        yield "Double quantization", _with(config, "quantization", double=True)
    if lora.rank > _LOWEST_RANK:
        rank = max(_LOWEST_RANK, lora.rank // 2)
        alpha = max(1, round(lora.alpha * rank / lora.rank))
        yield f"LoRA rank {lora.rank} → {rank}", _with(config, "lora", rank=rank, alpha=alpha)
    if training.optimizer != "paged_adamw_8bit":
        yield "8-bit optimizer", _with(config, "training", optimizer="paged_adamw_8bit")
    if lora.dropout > 0:
        yield "LoRA dropout 0", _with(config, "lora", dropout=0.0)
    if lora.dora:
        yield "Without DoRA,", _with(config, "lora", dora=False)


def _with(config: RunConfig, section: str, **values: Any) -> RunConfig:
    changed = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: changed})
