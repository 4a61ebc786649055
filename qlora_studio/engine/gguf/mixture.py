"""Which type each tensor of a GGUF is stored in, as llama.cpp's quantizer chooses: what matters more gets more bits.

Everything goes by the names that GGUF has for tensors. A type is named as in gguf.GGMLQuantizationType.
"""

import re
from collections.abc import Mapping

_BASES = {"Q3_K_M": "Q3_K", "Q4_K_S": "Q4_K", "Q4_K_M": "Q4_K", "Q5_K_S": "Q5_K", "Q5_K_M": "Q5_K"}
_BLOCKS = {"Q8_0": 32, "Q4_0": 32, "Q5_0": 32, "Q5_1": 32, "Q3_K": 256, "Q4_K": 256, "Q5_K": 256, "Q6_K": 256}
_FALLBACKS = {"Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}  # where a row is not whole blocks
_SMALL = ("altup_correct_coef", "altup_predict_coef", "ssm_conv1d", "shortconv.conv")
_KEPT = ("ffn_gate_inp", "position_embd", "token_types", "_norm.weight", *_SMALL)
_AS_IT_WAS = ("altup", "laurel", "per_layer_model_proj", "attn_rel_b", "indexer.k_proj", "indexer.q_proj")
_EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
_VALUES = ("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight")
_LARGEST = {"llama", "qwen2"}  # with 80 layers these are what llama.cpp calls a 70B, whose values are few
_EIGHT = 8  # experts: as Mixtral has, whose small tensors get more


def tensor_types(
    shapes: Mapping[str, tuple[int, ...]], file_type: str, *, architecture: str, layers: int, experts: int = 0
) -> dict[str, str]:
    """Return the type of each tensor for a file of a type such as F16, Q8_0 or Q4_K_M. Shapes end with the columns."""
    mixture = _Mixture(shapes, file_type, architecture, layers, experts)
    return {name: mixture.type_of(name) for name in shapes}


class _Mixture:
    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], file_type: str, architecture: str, layers: int, experts: int
    ) -> None:
        self._shapes = shapes
        self._file_type = file_type
        self._base = _BASES.get(file_type, file_type)
        self._is_falcon = architecture == "falcon"
        shares_values = shapes.get("blk.0.attn_v.weight") != shapes.get("blk.0.attn_q.weight")  # else it is a 65B
        self._is_largest = architecture in _LARGEST and layers == 80 and shares_values
        self._layers = layers
        self._experts = experts
        values = sorted((_layer(name), name) for name in shapes if name.endswith(_VALUES))
        self._value_ranks = {name: rank for rank, (_, name) in enumerate(values)}
        downs = sorted((_layer(name), name) for name in shapes if "ffn_down" in name and name.endswith(".weight"))
        self._down_ranks = {name: _layer(name) if experts else rank for rank, (_, name) in enumerate(downs)}

    def type_of(self, name: str) -> str:
        shape = self._shapes[name]
        if len(shape) < 2 or not name.endswith(".weight") or any(part in name for part in _KEPT):
            return "F32"
        if self._base in _FALLBACKS and any(part in name for part in _AS_IT_WAS):
            return "F16"  # no few bits for what is small
        wanted = self._base if self._base not in _FALLBACKS else self._wanted(name, shape[-1])
        if shape[-1] % _BLOCKS.get(wanted, 1):
            wanted = _FALLBACKS.get(wanted, "F16")
        return "F16" if shape[-1] % _BLOCKS.get(wanted, 1) else wanted

    def _wanted(self, name: str, columns: int) -> str:
        is_tied = "output.weight" not in self._shapes
        if name == "output.weight" or (is_tied and name in _EMBEDDINGS):
            return "Q8_0" if self._is_falcon or columns % _BLOCKS[self._base] else "Q6_K"
        if name in self._value_ranks:
            return self._of_values(self._value_ranks[name])
        if "attn_k.weight" in name:
            return "Q8_0" if self._experts == _EIGHT else self._base
        if name in self._down_ranks:
            return self._of_down(self._down_ranks[name])
        return self._of_attention_output() if "attn_output.weight" in name else self._base

    def _of_values(self, rank: int) -> str:
        kind = self._base
        if self._file_type == "Q3_K_M":
            kind = "Q5_K" if rank < 2 else "Q4_K"
        elif self._file_type in ("Q4_K_M", "Q5_K_M") and _gets_more(rank, len(self._value_ranks)):
            kind = "Q6_K"
        elif self._file_type == "Q4_K_S" and rank < 4:
            kind = "Q5_K"
        if self._is_largest and kind in ("Q3_K", "Q4_K"):
            kind = "Q5_K"
        return "Q8_0" if self._experts == _EIGHT else kind

    def _of_down(self, rank: int) -> str:
        layers, more = self._layers, _gets_more(rank, self._layers)
        if self._file_type == "Q3_K_M":
            if rank < layers // 16:
                return "Q5_K"
            return "Q4_K" if more or not self._is_falcon else "Q3_K"
        if self._file_type == "Q4_K_M" and self._is_falcon:
            return "Q6_K" if rank < layers // 16 else "Q5_K" if more else "Q4_K"
        if self._file_type in ("Q4_K_M", "Q5_K_M") and more:
            return "Q6_K"
        if self._file_type == "Q4_K_S" and not self._is_falcon and rank < layers // 8:
            return "Q5_K"
        return self._base

    def _of_attention_output(self) -> str:
        if self._is_falcon:
            return self._base
        if self._experts == _EIGHT:
            return "Q5_K" if self._file_type in ("Q3_K_M", "Q4_K_S", "Q4_K_M") else self._base
        return "Q4_K" if self._file_type == "Q3_K_M" else self._base


def _gets_more(rank: int, count: int) -> bool:
    """Whether a layer is among those that get more bits: the first and last eighth, and each third between."""
    return rank < count // 8 or rank >= 7 * count // 8 or (rank - count // 8) % 3 == 2


def _layer(name: str) -> int:
    found = re.match(r"blk\.(\d+)\.", name)
    return int(found[1]) if found else -1
