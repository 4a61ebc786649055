"""How llama.cpp's files hold each family that it knows: one record each, by transformers' `model_type`.

Every number and every tensor is held against llama.cpp's own converter (tests/engine/gguf/test_reference.py). What a
family computes of its config is in engine/gguf/numbers.py; how its tensors are rearranged, in
engine/gguf/rearrangement.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError

Number = int | float | bool | str | list[int] | list[float] | list[bool]


@dataclass(frozen=True, kw_only=True)
class GgufTraits:
    """How a GGUF holds a family. One that is not `written` here is known by its name alone, to be read.

    `rotates_pairs`: rope turns neighbouring rows, so q and k are reordered. Norms get `norm_offset`. `numbers` are keys
    of a GGUF, by those of the config, beside what all families have; `fixed`, those whose value no config says;
    `without`, those of all families that this one does not have.
    """

    architecture: str
    written: bool = True
    rotates_pairs: bool = False
    norm_offset: float = 0.0
    numbers: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Number] = field(default_factory=dict)
    without: tuple[str, ...] = ()


_VOCABULARY = {"vocab_size": "vocab_size"}
_LLAMA = GgufTraits(architecture="llama", rotates_pairs=True, numbers=_VOCABULARY)

GGUF_FAMILIES: dict[str, GgufTraits] = {  # an architecture of llama.cpp that several have is the first one's
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": GgufTraits(architecture="qwen2"),
    "qwen3": GgufTraits(architecture="qwen3"),
    "gemma2": GgufTraits(
        architecture="gemma2",
        norm_offset=1.0,
        numbers={
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
            "attention.sliding_window": "sliding_window",
        },
    ),
    "gemma3_text": GgufTraits(
        architecture="gemma3",
        norm_offset=1.0,
        numbers={
            "final_logit_softcapping": "final_logit_softcapping",
            "attention.sliding_window": "sliding_window",
        },
    ),
    "phi3": GgufTraits(
        architecture="phi3",
        numbers={"attention.sliding_window": "sliding_window"},
        fixed={"attention.sliding_window": 0},
        without=("rope.scaling.type", "attention.key_length", "attention.value_length"),
    ),
    "starcoder2": GgufTraits(architecture="starcoder2"),
    "qwen2_moe": GgufTraits(architecture="qwen2moe", written=False),
    "qwen3_moe": GgufTraits(architecture="qwen3moe", written=False),
    "gpt_oss": GgufTraits(architecture="gpt-oss", written=False),
}


def gguf_traits(config: Mapping[str, Any]) -> GgufTraits:
    """Return how a GGUF holds a model's family. Raises StudioError for one that is not written here."""
    traits = GGUF_FAMILIES.get(config.get("model_type", ""))
    if traits is None or not traits.written:
        raise not_written(f"Models of the kind {config.get('model_type')} are not among those that were tested.")
    return traits


def not_written(why: str) -> StudioError:
    """Return the error that refuses a model."""
    return StudioError(
        f"This model cannot be written as a GGUF here. {why}",
        kind=FailureKind.MODEL_REFUSED,
        advice="Export as safetensors, and convert with llama.cpp's own script.",
    )


def family_of_gguf(architecture: str) -> str:
    """Return transformers' name of llama.cpp's architecture."""
    return next(
        (name for name, traits in GGUF_FAMILIES.items() if traits.architecture == architecture),
        architecture,
    )
