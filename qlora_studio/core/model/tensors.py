"""The shape of a model of an unknown family, from the names and sizes of its tensors."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from qlora_studio.core.model.layers import LayerShape, Linear, Role
from qlora_studio.core.model.shape import ModelShape

_IN_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.(.+?)\.?(weight|bias)?$")
_ROLES: tuple[tuple[Role, tuple[str, ...]], ...] = (
    ("attention_in", ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "Wqkv", "c_attn")),
    ("attention_out", ("o_proj", "out_proj", "dense")),
    ("mlp_in", ("gate_proj", "up_proj", "gate_up_proj", "input_linear", "fc1", "c_fc", "dense_h_to_4h", "w1", "w3")),
    ("mlp_out", ("down_proj", "output_linear", "fc2", "dense_4h_to_h", "w2")),
)
# What sees or hears beside the language model stays in 16 bit here; heads that guess further tokens are not loaded.
_BESIDE = re.compile(r"(?:^|\.)(?:vision\w*|visual|audio\w*|multi_modal_projector|embed_vision|embed_audio)\.")
_NOT_LOADED = re.compile(r"(?:^|\.)mtp\.")
_ROUTERS = frozenset({"gate", "router"})
_CONVOLUTIONS = frozenset({"conv1d", "conv"})
_QUERIES = frozenset({"q_proj", "qkv_proj", "query_key_value", "Wqkv", "c_attn"})


def shape_from_tensors(shape: ModelShape, tensors: Mapping[str, tuple[int, ...]]) -> ModelShape:
    """Return `shape` with its parameters as the tensors of its safetensors files have them.

    Matrices inside decoder layers are taken for linear layers, but for routers, and for experts, which transformers
    stacks.
    """
    layers: dict[int, _Layer] = {}
    outer = 0
    for name, size in sorted(tensors.items(), key=lambda item: item[0].endswith(".bias")):
        if _NOT_LOADED.search(name):
            continue
        found = _IN_LAYER.search(name)
        if found and not _BESIDE.search(name):
            layers.setdefault(int(found[1]), _Layer()).add(found[2], found[3] or "", size)
        elif not (shape.tied and name == "lm_head.weight"):
            outer += math.prod(size)
    if not layers:
        return shape
    counted: dict[LayerShape, int] = {}
    for _, layer in sorted(layers.items()):
        kind = LayerShape(1, layer.linears(), layer.kept, layer.experts)
        if shape.recurrence is not None:
            own = replace(shape.sizes, width=shape.intermediate_size if layer.has_mlp else 0)
            recurrence = shape.recurrence if layer.recurs else None
            kind = replace(kind, recurrence=recurrence, attends=layer.attends, own=own)
        counted[kind] = counted.get(kind, 0) + 1
    kinds = tuple(replace(kind, count=count) for kind, count in counted.items())
    return replace(shape, layer_shapes=kinds, outer_kept=outer, exact=True)


@dataclass
class _Layer:
    """What one layer holds."""

    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    biased: set[str] = field(default_factory=set)
    kept: int = 0
    experts: int = 0
    recurs: bool = False

    @property
    def attends(self) -> bool:
        """Whether tokens look back at others here."""
        return any(path.rsplit(".", 1)[-1] in _QUERIES for path in self.sizes)

    @property
    def has_mlp(self) -> bool:
        """Whether a token is worked on by itself here."""
        return any(_role(path.rsplit(".", 1)[-1]).startswith("mlp") for path in self.sizes) or self.experts > 0

    def add(self, path: str, kind: str, size: tuple[int, ...]) -> None:
        name = path.rsplit(".", 1)[-1]
        self.recurs = self.recurs or name in _CONVOLUTIONS
        if name in _ROUTERS:
            self.kept += math.prod(size)
        elif ".experts." in f".{path}." or (len(size) > 2 and "conv" not in name):
            self.experts += math.prod(size)
        elif kind == "weight" and len(size) == 2:
            self.sizes[path] = size
        elif kind == "bias" and path in self.sizes:
            self.biased.add(path)
        else:
            self.kept += math.prod(size)

    def linears(self) -> tuple[Linear, ...]:
        return tuple(
            Linear(name := path.rsplit(".", 1)[-1], size[1], size[0], _role(name), path in self.biased)
            for path, size in self.sizes.items()
        )


def _role(name: str) -> Role:
    return next((role for role, names in _ROLES if name in names), "other")
