"""What is measured on a card: models of real shapes with random weights, and settings that move memory."""

from dataclasses import dataclass, field
from typing import Any

from qlora_studio.core.memory.setup import MemorySetup
from qlora_studio.core.model.shape import ModelShape

_LLAMA_1B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}
_QWEN_1_5B = _LLAMA_1B | {
    "model_type": "qwen2",
    "hidden_size": 1536,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "intermediate_size": 8960,
    "vocab_size": 151936,
}
_EIGHT_LAYERS_OF_8B = _LLAMA_1B | {
    "hidden_size": 4096,
    "num_hidden_layers": 8,
    "head_dim": 128,
    "intermediate_size": 14336,
    "tie_word_embeddings": False,
}
_GEMMA_2 = _LLAMA_1B | {"model_type": "gemma2", "num_hidden_layers": 8, "num_attention_heads": 16, "head_dim": 128}
_TINY = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 256,
    "vocab_size": 512,
}


@dataclass(frozen=True)
class Plan:
    """One thing to measure: a model's config, and what differs from the usual setup."""

    name: str
    model: dict[str, Any]
    changes: dict[str, Any] = field(default_factory=dict)
    expandable: bool = True

    def setup(self, shape: ModelShape) -> MemorySetup:
        """Return the setup of the step."""
        usual: dict[str, Any] = {
            "targets": shape.targets("auto"),
            "optimizer": "paged_adamw_32bit",
            "attention": "eager" if shape.eager_only else "flash",
        }
        return MemorySetup(**(usual | self.changes))


@dataclass(frozen=True)
class Measurement:
    """What a step took, in bytes; all 0 and a note where it could not be taken."""

    name: str
    allocated: int = 0
    reserved: int = 0
    process: int = 0
    workspace_bytes: int = 8_519_680
    note: str = ""


def plans(*, tiny: bool = False) -> list[Plan]:
    """Return what is measured; the same with models that a processor steps through in no time where `tiny`."""
    masked = {"masked": True, "attention": "efficient"}
    found = [
        Plan("1B s512", _LLAMA_1B, {"row_tokens": 512}),
        Plan("1B s2048", _LLAMA_1B),
        Plan("1B s8192", _LLAMA_1B, {"row_tokens": 8192}),
        Plan("1B b4 s1024", _LLAMA_1B, {"batch": 4, "row_tokens": 1024}),
        Plan("1B b4 s1024 padded", _LLAMA_1B, {"batch": 4, "row_tokens": 1024, **masked}),
        Plan("1B b2 s4096 padded", _LLAMA_1B, {"batch": 2, "row_tokens": 4096, **masked}),
        Plan("1B rank 64", _LLAMA_1B, {"rank": 64}),
        Plan("1B rank 256 s256", _LLAMA_1B, {"rank": 256, "row_tokens": 256}),
        Plan("1B q and v", _LLAMA_1B, {"targets": frozenset({"q_proj", "v_proj"})}),
        Plan("1B dropout", _LLAMA_1B, {"dropout": 0.05}),
        Plan("1B DoRA s512", _LLAMA_1B, {"dora": True, "row_tokens": 512}),
        Plan("1B without checkpointing", _LLAMA_1B, {"checkpointing": False, "row_tokens": 1024}),
        Plan("1B accumulation", _LLAMA_1B, {"accumulation": 2, "rank": 64}),
        Plan("1B single quantization", _LLAMA_1B, {"double": False}),
        Plan("1B FP4", _LLAMA_1B, {"quantization": "fp4"}),
        Plan("1B 16-bit LoRA", _LLAMA_1B, {"quantization": "none"}),
        Plan("1B plain AdamW", _LLAMA_1B, {"optimizer": "adamw_torch_fused", "rank": 64}),
        Plan("1B paged 8-bit AdamW", _LLAMA_1B, {"optimizer": "paged_adamw_8bit", "rank": 64}),
        Plan("1B eager", _LLAMA_1B, {"attention": "eager", "row_tokens": 1024}),
        Plan("1B full logits", _LLAMA_1B, {"loss": "plain", "row_tokens": 1024}),
        Plan("1B half of the tokens trained", _LLAMA_1B, {"trained_share": 0.5}),
        Plan("Qwen 1.5B s2048", _QWEN_1_5B),
        Plan("8 layers of an 8B s2048", _EIGHT_LAYERS_OF_8B),
        Plan("Gemma 2 s1024", _GEMMA_2, {"row_tokens": 1024}),
        Plan("1B s2048 fixed segments", _LLAMA_1B, expandable=False),
        Plan("8 layers of an 8B s2048 fixed segments", _EIGHT_LAYERS_OF_8B, expandable=False),
    ]
    return [_tiny(plan) for plan in found] if tiny else found


def _tiny(plan: Plan) -> Plan:
    tokens = min(64, plan.changes.get("row_tokens", 64))
    rank = min(8, plan.changes.get("rank", 8))
    changes = plan.changes | {"row_tokens": tokens, "rank": rank}
    return Plan(plan.name, plan.model | _TINY, changes, plan.expandable)
