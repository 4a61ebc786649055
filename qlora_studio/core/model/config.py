"""Reading a `config.json`: what it leaves out comes from the family's defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.family import FAMILIES, Family, Flag, wrapped_family
from qlora_studio.core.words import say

# What older and other families call the same number. No family has two of a line, so the order is of no matter.
_ALIASES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model", "emb_dim", "n_embed", "dim"),
    "num_hidden_layers": (
        "n_layer",
        "n_layers",
        "num_layers",
        "decoder_layers",
        "num_decoder_layers",
        "encoder_layers",
    ),
    "num_attention_heads": (
        "n_head",
        "n_heads",
        "num_heads",
        "attention_heads",
        "decoder_attention_heads",
        "num_decoder_attention_heads",
        "encoder_attention_heads",
    ),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv"),
    "intermediate_size": (
        "ffn_dim",
        "n_inner",
        "ffn_hidden_size",
        "decoder_ffn_dim",
        "d_inner",
        "feed_forward_size",
        "block_ff_dim",
    ),
    "max_position_embeddings": ("n_positions", "n_ctx", "max_seq_len", "context_length", "model_max_length"),
    "vocab_size": ("n_words", "n_token"),
    "head_dim": ("attention_head_dim",),
    "first_k_dense_replace": ("num_dense_layers", "moe_layer_start_index"),
    "n_shared_experts": ("moe_num_shared_experts",),
    "num_experts_per_tok": ("moe_k",),
    "mamba_n_heads": ("mamba_num_heads",),
    "mamba_d_head": ("mamba_head_dim",),
    "mamba_n_groups": ("n_groups",),
    "mamba_d_state": ("ssm_state_size",),
    "mamba_d_conv": ("conv_kernel",),
    "mamba_conv_bias": ("use_conv_bias",),
}
_LAYER_LISTS = ("layer_types", "layers_block_type", "hybrid_override_pattern", "attn_layers")
_USUAL_HEAD = 64


@dataclass(frozen=True)
class ConfigReader:
    """A `config.json` with its family's defaults behind it."""

    config: Mapping[str, Any]
    family: Family

    def value(self, key: str) -> Any:
        """Return what the config says of `key`, or the family's default."""
        names = (key, *_ALIASES.get(key, ()))
        found = next((self.config[name] for name in names if self.config.get(name) is not None), None)
        return self.family.defaults.get(key) if found is None else found

    def number(self, key: str) -> int:
        """Return a whole number, 0 where the config has none. Raises StudioError where it is something else."""
        value = self.value(key)
        if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
            value = max(value)  # of each layer
        if value is None or isinstance(value, bool):
            return 0
        if not isinstance(value, int) or value < -1:  # some say -1 where they mean no limit
            raise nonsense(key)
        return max(0, value)

    def size(self, key: str) -> int:
        """Return a number that every model has. Raises StudioError where it is missing.

        A family that is not known may count otherwise; it is guessed then: an estimate keeps nobody from training.
        """
        value = self.number(key) or (0 if self.config.get("model_type") in FAMILIES else self._guess(key))
        if value <= 0:
            raise nonsense(key)
        return value

    def _guess(self, key: str) -> int:
        hidden = self.number("hidden_size")
        lists = (self.config.get(name) for name in _LAYER_LISTS)
        layers = next((len(found) for found in lists if found and isinstance(found, list | str)), 0)
        heads = max(1, hidden // _USUAL_HEAD)
        guesses = {"num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": 4 * hidden}
        return guesses.get(key, 0)

    def experts(self) -> int:
        """Return the number of experts in a layer, 0 where the family has none."""
        keys = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
        return next(filter(None, map(self.number, keys)), 0) if self.family.experts else 0

    def flag(self, flag: Flag) -> bool:
        """Return what a flag of the family comes to in this config."""
        return flag if isinstance(flag, bool) else bool(self.value(flag))


def nonsense(key: str) -> StudioError:
    """Return the error of a config that does not say something, or not so that it can be true."""
    return StudioError(
        say("The model's config.json does not say {key}, or says nonsense.", key=key),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Choose a text-generating language model in the Hugging Face format."),
    )


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a config that describes the language model; the whole where it is nothing else."""
    inner = config.get("text_config")
    if not isinstance(inner, Mapping):
        if "vision_config" not in config:
            return config
        inner = {key: value for key, value in config.items() if key != "model_type"}  # Qwen2-VL: all on one level
    if inner.get("model_type"):
        return inner
    return {**inner, "model_type": wrapped_family(str(config.get("model_type", "")))}
