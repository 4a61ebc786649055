"""The shape of a model: how many parameters lie where, and which of them 4 bits can shrink. Pure, from a config alone.

Quantized are the linear layers inside the decoder layers, and the stacked experts of mixtures. Embeddings, the head,
norms and routers stay in 16 bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from qlora_studio.core.model.config import ConfigReader, text_config
from qlora_studio.core.model.family import FAMILIES, LLAMA
from qlora_studio.core.model.gemma4 import gemma4_layers, layer_embeddings
from qlora_studio.core.model.layers import (
    LayerShape,
    Linear,
    Sizes,
    layer_shapes,
    mlp_width,
    norm_parameters,
    query_norm,
)
from qlora_studio.core.model.recurrence import Recurrence, recurrence_of, recurrent_layers


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Everything that memory depends on. `exact` is False where the family is unknown and taken for a llama."""

    family: str
    architecture: str
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocabulary: int
    context_length: int
    tied: bool
    layer_shapes: tuple[LayerShape, ...]
    outer_kept: int  # embeddings, final norm, positions, and the head where it is not tied
    outer_linears: tuple[Linear, ...] = ()  # beside the layers, and as those in them
    gated: bool = True
    norms: int = 2  # of the hidden size, in a layer
    norm: Literal["rms", "layer", "plain", "none"] = "rms"
    query_norm: Literal["", "head", "full"] = ""
    experts: int = 0  # of a layer
    experts_per_token: int = 0
    expert_width: int = 0
    eager_only: bool = False  # attention sinks or soft-capping: SDPA's kernels cannot be used
    sinks: bool = False
    softcap: bool = False
    activation: str = "silu"
    recurrence: Recurrence | None = None  # of those layers that have one
    exact: bool = True

    @property
    def sizes(self) -> Sizes:
        """The widths that a layer has where it says nothing else."""
        return Sizes(self.hidden_size, self.heads, self.kv_heads, self.head_dim, self.intermediate_size)

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return sum(layer.count for layer in self.layer_shapes)

    @property
    def parts(self) -> tuple[LayerShape, ...]:
        """The kinds of layers, and what lies beside them as one more."""
        return (*self.layer_shapes, LayerShape(1, self.outer_linears, 0)) if self.outer_linears else self.layer_shapes

    @property
    def quantizable_parameters(self) -> int:
        """Parameters that become 4-bit."""
        return sum(layer.count * (layer.quantizable + layer.experts) for layer in self.parts)

    @property
    def expert_parameters(self) -> int:
        """Parameters of stacked experts, which become 4-bit too."""
        return sum(layer.count * layer.experts for layer in self.layer_shapes)

    @property
    def kept_parameters(self) -> int:
        """Parameters that stay in 16 bit: embeddings, head, norms, biases, routers."""
        inner = sum(layer.count * (layer.kept + layer.biases) for layer in self.layer_shapes)
        return self.outer_kept + inner

    @property
    def parameters(self) -> int:
        """All parameters, each shared one counted once."""
        return self.quantizable_parameters + self.kept_parameters

    def linear_names(self) -> tuple[str, ...]:
        """Names of all linear layers, in order: the target modules of `auto`."""
        return tuple(dict.fromkeys(linear.name for layer in self.parts for linear in layer.linears))

    def targets(self, target_modules: str) -> frozenset[str]:
        """Return the names that `lora.target_modules` stands for; names that the model does not have are left out."""
        if target_modules.strip() in ("", "auto", "all-linear"):
            return frozenset(self.linear_names())
        wanted = {name.strip().rsplit(".", 1)[-1] for name in target_modules.split(",")}
        return frozenset(wanted & set(self.linear_names()))

    def adapter_parameters(
        self, rank: int, targets: frozenset[str], *, dora: bool = False, experts: bool = False
    ) -> int:
        """Return the number of LoRA parameters: rank × (inputs + outputs) a module, with DoRA a magnitude an output.

        With `experts`, those of all routed experts too.
        """
        routed = sum(layer.count * sum(self.expert_tensors(rank)) for layer in self.layer_shapes if layer.experts)
        return (routed if experts else 0) + sum(
            layer.count * (rank * (linear.inputs + linear.outputs) + (linear.outputs if dora else 0))
            for layer in self.parts
            for linear in layer.linears
            if linear.name in targets
        )

    def expert_tensors(self, rank: int) -> tuple[int, ...]:
        """Return the sizes of the tensors that adapt a layer's experts: two for gate and up in one, two for down."""
        rows, width = rank * self.experts, self.expert_width
        return rows * self.hidden_size, rows * 2 * width, rows * width, rows * self.hidden_size


def shape_from_config(config: Mapping[str, Any]) -> ModelShape:
    """Return the shape that a `config.json` describes: of the language model in it, where it also sees pictures.

    Raises StudioError where it is no language model's.
    """
    text = text_config(config)
    name = str(text.get("model_type", ""))
    family = FAMILIES.get(name, LLAMA)
    read = ConfigReader(text, family)
    hidden, heads = read.size("hidden_size"), read.size("num_attention_heads")
    head_dim = read.number("head_dim") or hidden // heads
    kv_heads = read.number("num_key_value_heads") or heads
    width = mlp_width(read)
    sizes = Sizes(hidden, heads, kv_heads, head_dim, width)
    vocabulary = read.size("vocab_size")
    tied = bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", family.tied)))
    norm = norm_parameters(family, hidden)
    head = 0 if tied else vocabulary * hidden
    more, outer_linears = layer_embeddings(read) if family.per_layer else (0, ())
    layers = gemma4_layers(read, sizes) if family.per_layer else layer_shapes(read, family, sizes)
    recurrence = recurrence_of(read)
    if name not in FAMILIES and recurrence is not None:
        layers = _with_recurrence(read, layers, recurrence)
    return ModelShape(
        family=name,
        architecture=next(iter(config.get("architectures") or [""]), ""),
        hidden_size=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=width,
        vocabulary=vocabulary,
        context_length=read.number("max_position_embeddings"),
        tied=tied,
        layer_shapes=layers,
        outer_kept=vocabulary * hidden + head + norm + more + (vocabulary if read.flag(family.head_bias) else 0),
        outer_linears=outer_linears,
        gated=family.gated,
        norms=family.norms + (1 if outer_linears else 0),
        norm="plain" if family.norm == "layer_plain" else family.norm,
        query_norm=query_norm(read, family),
        experts=read.experts(),
        experts_per_token=read.number("num_experts_per_tok") if family.experts else 0,
        expert_width=read.number(family.expert_width_key) if family.experts else 0,
        eager_only=family.eager_only,
        sinks=family.sinks,
        softcap=family.softcap,
        activation=str(text.get("hidden_act") or text.get("hidden_activation") or family.activation or "silu"),
        recurrence=recurrence,
        exact=name in FAMILIES,
    )


def _with_recurrence(
    read: ConfigReader, layers: tuple[LayerShape, ...], recurrence: Recurrence
) -> tuple[LayerShape, ...]:
    """Return the layers of a family that is not known, as many of them with the recurrence as the config says."""
    total = sum(layer.count for layer in layers)
    count, widest = recurrent_layers(read, total), max(layers, key=lambda layer: layer.quantizable + layer.experts)
    if not count:
        return layers
    attends = count == total and bool(read.value("num_attention_heads"))  # side by side, as in Falcon-H1
    own = replace(widest, count=count, recurrence=recurrence, attends=attends)
    return (own, replace(widest, count=total - count)) if count < total else (own,)
