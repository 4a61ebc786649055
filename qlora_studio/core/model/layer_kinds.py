"""Which kinds of decoder layers a model has, one by one: what mixes its tokens, and what follows."""

from typing import Literal, NamedTuple

from qlora_studio.core.model.config import ConfigReader, nonsense
from qlora_studio.core.model.family import Family, Mixer
from qlora_studio.core.words import say

# As config.json names layers, in words or in the letters of a pattern
_FEEDS: dict[str, Literal["dense", "experts"]] = {"mlp": "dense", "-": "dense", "moe": "experts", "E": "experts"}


class LayerKind(NamedTuple):
    """What mixes tokens in a layer, and what they go through then; a layer may have one alone."""

    mixers: tuple[Mixer, ...]
    feed: Literal["", "dense", "experts"]


def layer_kinds(read: ConfigReader, family: Family) -> list[LayerKind]:
    """Return the kind of each decoder layer that a config describes."""
    if family.single_blocks:
        names = read.value("layers_block_type") or read.value("hybrid_override_pattern") or ()
        return [_block(name, family) for name in names]
    layers = read.size("num_hidden_layers")
    mixers, feeds = _mixers(read, family, layers), _feeds(read, layers)
    if len(mixers) != layers or len(feeds) != layers:
        raise nonsense(say("of each layer what it is"))
    return [LayerKind(*kind) for kind in zip(mixers, feeds, strict=True)]


def _block(name: str, family: Family) -> LayerKind:
    feed = _FEEDS.get(name)
    return LayerKind((), feed) if feed else LayerKind((_mixer(name, family),), "")


def _mixer(name: str, family: Family) -> Mixer:
    attends = name == "*" or (name.endswith("attention") and name != "linear_attention")
    return "attention" if attends else family.mixer


def _mixers(read: ConfigReader, family: Family, layers: int) -> list[tuple[Mixer, ...]]:
    if family.mixer == "attention":
        return [("attention",)] * layers
    if family.parallel_mixers:
        return [("attention", family.mixer)] * layers
    if names := read.value("layer_types"):
        return [(_mixer(name, family),) for name in names]
    step, full = read.number("full_attention_interval"), read.value("full_attn_idxs")
    attending = {layer for layer in range(layers) if step and (layer + 1) % step == 0} | set(full or ())
    return [("attention",) if layer in attending else (family.mixer,) for layer in range(layers)]


def _feeds(read: ConfigReader, layers: int) -> list[Literal["", "dense", "experts"]]:
    if not read.experts():
        return ["dense"] * layers
    if names := read.value("mlp_layer_types"):
        return ["dense" if name == "dense" else "experts" for name in names]
    first = read.number("first_k_dense_replace")
    last = max(read.number("moe_layer_end_index"), 0) or layers
    step = read.number("decoder_sparse_step") or 1
    dense = set(read.value("mlp_only_layers") or ())
    return [
        "experts" if first <= layer <= last and layer not in dense and (layer + 1) % step == 0 else "dense"
        for layer in range(layers)
    ]
