"""Full fine-tuning, LoRA and QLoRA side by side for one model: the table of the QLoRA article, computed."""

from dataclasses import dataclass, replace

from qlora_studio.core.config.optimizer import OF_FULL_TRAINING
from qlora_studio.core.memory.estimate import Estimate
from qlora_studio.core.memory.estimator import estimate_setup
from qlora_studio.core.memory.setup import Attention, MemorySetup
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.words import say


@dataclass(frozen=True)
class MethodRow:
    """One way to fine-tune a model, and what it takes."""

    key: str
    label: str
    estimate: Estimate


def compare_methods(
    shape: ModelShape, setup: MemorySetup | None = None, *, context_bytes: int | None = None
) -> tuple[MethodRow, ...]:
    """Return what full fine-tuning, LoRA and QLoRA of a model take, with a run's setup in all else.

    Without one, it is the article's table: rank 16, one row of 512 tokens at a time, checkpointing.
    Full fine-tuning is the usual mixed precision: weights, gradients and both AdamW moments in fp32, 16 bytes a
    parameter. LoRA keeps the frozen base in 16 bit, QLoRA in NF4 with double quantization and a paged optimizer.
    """
    common = setup or _article_setup(shape)
    whole = replace(common, quantization="none", optimizer=OF_FULL_TRAINING)
    small = common if common.quantization != "none" else replace(common, quantization="nf4", double=True)
    setups = {
        ("full", say("Full fine-tuning")): replace(whole, method="full", weight_bytes=4, rank=0, dora=False),
        ("lora", say("LoRA, 16-bit base")): whole,
        ("qlora", say("QLoRA, 4-bit base")): small,
    }
    return tuple(
        MethodRow(key, label, estimate_setup(shape, setup, context_bytes=context_bytes))
        for (key, label), setup in setups.items()
    )


def _article_setup(shape: ModelShape) -> MemorySetup:
    attention: Attention = "eager" if shape.eager_only else "flash"
    return MemorySetup(rank=16, targets=shape.targets("auto"), row_tokens=512, attention=attention)
