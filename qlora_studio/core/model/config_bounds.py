"""What a `config.json` may say at all: values of the right kind, and no sizes that no model has.

It is looked through at every depth before anything counts layers or makes room by what it says.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say

_ANY = 1 << 53  # what is no size, as a count of all its parameters
# The deepest models that are published have 130 layers, the widest mixtures 16,384 experts.
_LIMITS = (
    (re.compile(r"(^|_)(layers?|blocks|depth|hidden_groups)$"), 1024),
    (re.compile(r"(^|_)(experts|labels)$"), 65_536),
    (
        re.compile(
            r"(^|_)(size|dim|heads?|groups|positions|position_embeddings|rank|width|state|embd|inner|ctx|length|channels"
            r"|kernel|interval|step|seq_len|ssm|cache|shared_experts)$|^num_|^n_[a-z]+$|_per_tok$|_multiple_of$"
        ),
        1 << 31,
    ),
    (re.compile(""), _ANY),
)
_NUMBERS = (int, float)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("model_type", "quant_method", "hidden_act", "hidden_activation"), (str,)),
    **dict.fromkeys(("text_config", "vision_config", "quantization_config", "compression_config"), (Mapping,)),
    **dict.fromkeys(("architectures", "layer_types", "layers_block_type", "mlp_layer_types"), (list,)),
    **dict.fromkeys(("full_attn_idxs", "mlp_only_layers", "attn_layer_indices"), (list,)),
    **dict.fromkeys(("rope_theta", "partial_rotary_factor", "block_ffn_dim_multiplier"), _NUMBERS),
    "hybrid_override_pattern": (str,),
    "per_layer_config": (Mapping, list),
}
_ELEMENTS: dict[str, type] = {
    **dict.fromkeys(("architectures", "layer_types", "layers_block_type", "mlp_layer_types"), str),
    **dict.fromkeys(("full_attn_idxs", "mlp_only_layers", "attn_layer_indices"), int),
}


def require_sound_config(config: Mapping[str, Any], name: str) -> None:
    """Raise StudioError where a config says what none can."""
    if problem := next(_problems(config), ""):
        raise StudioError(
            say("{name} is refused: its config.json cannot be right, {problem}.", name=name, problem=problem),
            kind=FailureKind.MODEL_REFUSED,
            advice=say("Take the config.json that the model was published with."),
        )


def _problems(config: Mapping[str, Any]) -> Iterator[str]:
    for key, value in config.items():
        kinds = _KINDS.get(key)
        if kinds and value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            yield f"{key} is {_shown(value)}"
        if (element := _ELEMENTS.get(key)) and isinstance(value, list):
            yield from (f"{key} holds {_shown(item)}" for item in value if not isinstance(item, element))
        limit = next(most for names, most in _LIMITS if names.search(key))
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                yield from _problems(item)
            elif isinstance(item, int if limit == _ANY else _NUMBERS) and not abs(item) <= limit:  # nor NaN is a size
                yield f"{key} is {_shown(item)}"


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]} …"
