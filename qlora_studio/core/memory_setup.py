"""Everything but the model that a run's memory depends on, resolved: no `auto` is left in it."""

from dataclasses import dataclass
from typing import Literal

from qlora_studio.core.model_shape import ModelShape
from qlora_studio.core.run_config import RunConfig

Attention = Literal["flash", "efficient", "eager"]
Method = Literal["lora", "full"]
CHECKPOINTING_BY_DEFAULT = True
AUTO_OPTIMIZER = "paged_adamw_32bit"


@dataclass(frozen=True, kw_only=True)
class MemorySetup:
    """A training step as the allocator sees it.

    `row_tokens` is the longest row after padding or packing, `trained_share` the part of its tokens that carry a label.
    `attention` is the kernel that runs: a padding mask rules flash out. `upcast` is peft's fp32 cast of embeddings,
    head and norms (`prepare_model_for_kbit_training`), `loss` trl's fused head or Hugging Face's full logits.
    """

    method: Method = "lora"
    quantization: Literal["nf4", "fp4", "none"] = "nf4"
    double: bool = True
    weight_bytes: int = 2
    compute_bytes: int = 2
    rank: int = 16
    targets: frozenset[str] = frozenset()
    dropout: float = 0.0
    dora: bool = False
    adapter_bytes: int = 2
    optimizer: str = AUTO_OPTIMIZER
    checkpointing: bool = True
    accumulation: int = 1
    batch: int = 1
    row_tokens: int = 2048
    trained_share: float = 1.0
    attention: Attention = "flash"
    masked: bool = False
    loss: Literal["fused", "plain"] = "fused"
    upcast: bool = False
    workspace_bytes: int = 8_519_680

    @property
    def tokens(self) -> int:
        """Tokens on the card at once."""
        return self.batch * self.row_tokens


def setup_for(config: RunConfig, shape: ModelShape, *, row_tokens: int | None = None) -> MemorySetup:
    """Return the setup of a run. `row_tokens` is the longest row of the data where it is known."""
    training, quantization, lora = config.training, config.quantization, config.lora
    longest = training.max_length if row_tokens is None or training.packing else min(row_tokens, training.max_length)
    masked = training.packing or training.batch_size > 1
    compute_bytes = 4 if quantization.compute_dtype == "float32" else 2
    return MemorySetup(
        quantization=quantization.method,
        double=quantization.double,
        weight_bytes=compute_bytes,
        compute_bytes=compute_bytes,
        rank=lora.rank,
        targets=shape.targets(lora.target_modules),
        dropout=lora.dropout,
        dora=lora.dora,
        adapter_bytes=compute_bytes,
        optimizer=AUTO_OPTIMIZER if training.optimizer == "auto" else training.optimizer,
        checkpointing=checkpointing_is_on(config),
        accumulation=training.gradient_accumulation,
        batch=training.batch_size,
        row_tokens=max(1, longest),
        attention="eager" if shape.eager_only else "efficient" if masked else "flash",
        masked=masked,
    )


def checkpointing_is_on(config: RunConfig) -> bool:
    """Whether activations are computed twice instead of kept; `auto` is on."""
    return config.training.gradient_checkpointing != "off"
