"""Everything but the model that a run's memory depends on, resolved: no `auto` is left in it."""

from dataclasses import dataclass
from typing import Literal

from qlora_studio.core.config.optimizer import ON_CARD, resolved
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.gpu_catalogue import WORKSPACE_BYTES, GpuSpec
from qlora_studio.core.model.padding import padded_because
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.run.ranks import sharing

Attention = Literal["flash", "efficient", "eager"]
Method = Literal["lora", "full"]
_FLASH_FROM = 8.0  # compute capability


@dataclass(frozen=True, kw_only=True)
class MemorySetup:
    """A training step as the allocator sees it.

    `row_tokens` is the longest row after padding or packing, `trained_share` the part of its tokens that carry a label.
    `attention` is the kernel that runs: a padding mask rules flash out. `upcast` is peft's fp32 cast of embeddings,
    head and norms (`prepare_model_for_kbit_training`), `loss` trl's fused head or Hugging Face's full logits. With
    `checkpointing`, the first `checkpointed_layers` layers are computed twice and the others kept; 0 is all of them.
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
    experts: bool = False  # adapted too
    adapter_bytes: int = 2
    optimizer: str = ON_CARD
    checkpointing: bool = True
    checkpointed_layers: int = 0
    accumulation: int = 1
    batch: int = 1
    row_tokens: int = 2048
    trained_share: float = 1.0
    attention: Attention = "flash"
    masked: bool = False
    loss: Literal["fused", "plain"] = "fused"
    upcast: bool = False
    workspace_bytes: int = WORKSPACE_BYTES
    cards: int = 1  # that share the packed weights of the layers out

    def checkpointed_of(self, layers: int) -> int:
        """How many of a model's layers are checkpointed."""
        return min(self.checkpointed_layers or layers, layers) if self.checkpointing else 0

    @property
    def tokens(self) -> int:
        """Tokens on the card at once."""
        return self.batch * self.row_tokens


def setup_for(
    config: RunConfig, shape: ModelShape, *, row_tokens: int | None = None, gpu: GpuSpec | None = None
) -> MemorySetup:
    """Return the setup of a run: on a card of this kind, or on a recent one where none is named.

    `row_tokens` is the longest row of the data, or the longest pack, where that is known. Rows lie end to end without a
    mask, and take at most what as many of the longest would. Where a model cannot do that they are padded to the
    longest, and packs are kept apart within; both need a mask, which the flash kernel does not take.
    """
    training, lora = config.training, config.lora
    longest = training.max_length if row_tokens is None else min(row_tokens, training.max_length)
    dtype = compute_dtype_of(config, gpu)
    size = 4 if dtype == "float32" else 2
    masked = (training.packing or training.batch_size > 1) and bool(padded_because(shape))
    return MemorySetup(
        quantization=config.quantization.method,
        double=config.quantization.double,
        weight_bytes=size,
        compute_bytes=size,
        rank=lora.rank,
        targets=shape.targets(lora.target_modules),
        dropout=lora.used_dropout,
        dora=lora.dora,
        experts=lora.experts and shape.experts > 0,
        adapter_bytes=2 if dtype == "bfloat16" else 4,
        optimizer=resolved(training.optimizer),
        checkpointing=training.gradient_checkpointing != "off",
        checkpointed_layers=training.checkpointed_layers,
        accumulation=training.gradient_accumulation,
        batch=training.batch_size,
        row_tokens=max(1, longest),
        attention=_attention(shape, masked, gpu),
        masked=masked,
        workspace_bytes=gpu.workspace_bytes if gpu else WORKSPACE_BYTES,
        cards=1 if shape.experts else sharing(config),
    )


def compute_dtype_of(config: RunConfig, gpu: GpuSpec | None) -> str:
    """Return the compute dtype: what the config says, or the best that the card has."""
    wish: str = config.quantization.compute_dtype
    if wish == "auto":
        return "bfloat16" if gpu is None or gpu.bf16 else "float16"
    return wish


def _attention(shape: ModelShape, masked: bool, gpu: GpuSpec | None) -> Attention:
    if shape.eager_only:
        return "eager"
    has_flash = gpu is None or gpu.compute >= _FLASH_FROM
    return "flash" if has_flash and not masked else "efficient"
