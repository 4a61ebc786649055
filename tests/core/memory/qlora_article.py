"""What the QLoRA article says that fine-tuning takes, and the Llama models of its sizes."""

from qlora_studio.core.model.shape import ModelShape, shape_from_config

# What the article prints, in GB: full fine-tuning, LoRA in 16 bit, QLoRA.
ARTICLE_GB = {"7B": (112, 16, 10), "13B": (208, 30, 16), "33B": (528, 75, 24), "70B": (1100, 160, 48)}
_MODELS = {  # hidden, layers, heads, key/value heads, intermediate
    "7B": (4096, 32, 32, 32, 11008),
    "13B": (5120, 40, 40, 40, 13824),
    "33B": (6656, 60, 52, 52, 17920),
    "70B": (8192, 80, 64, 8, 28672),
}


def article_shapes() -> dict[str, ModelShape]:
    """Return the Llama models of the article's sizes."""
    return {size: shape_from_config(_llama(*numbers)) for size, numbers in _MODELS.items()}


def _llama(hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int) -> dict[str, object]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
    }
