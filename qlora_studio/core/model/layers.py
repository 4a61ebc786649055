"""A decoder layer: its linear layers by name and what else it holds, and its parameters counted family by family."""

from dataclasses import dataclass, replace
from typing import Literal

from qlora_studio.core.model.config import ConfigReader
from qlora_studio.core.model.family import Family
from qlora_studio.core.model.layer_kinds import LayerKind, layer_kinds
from qlora_studio.core.model.recurrence import Recurrence, recurrence_of

Role = Literal["attention_in", "attention_out", "mlp_in", "mlp_out", "other"]


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer of a decoder layer, by the last part of its module's name."""

    name: str
    inputs: int
    outputs: int
    role: Role = "other"
    bias: bool = False

    @property
    def parameters(self) -> int:
        """Weights, without the bias: what is quantized, and what a full fine-tuning would train."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class Sizes:
    """The widths that a layer is made of."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int


@dataclass(frozen=True, slots=True)
class LayerShape:
    """`count` decoder layers of one kind. `kept` counts norms, routers and the like, `experts` the stacked experts.

    `own` are its sizes where they are not the model's. One with a `recurrence` also `attends` only where it says so.
    """

    count: int
    linears: tuple[Linear, ...]
    kept: int
    experts: int = 0
    own: Sizes | None = None
    recurrence: Recurrence | None = None
    attends: bool = True

    @property
    def quantizable(self) -> int:
        """Weights of the linear layers, of one layer."""
        return sum(linear.parameters for linear in self.linears)

    @property
    def biases(self) -> int:
        """Biases of the linear layers, of one layer; they stay in 16 bit."""
        return sum(linear.outputs for linear in self.linears if linear.bias)


def layer_shapes(read: ConfigReader, family: Family, sizes: Sizes) -> tuple[LayerShape, ...]:
    """Return the kinds of decoder layers that a config describes, in the order in which they first come."""
    counted: dict[LayerKind, int] = {}
    for kind in layer_kinds(read, family):
        counted[kind] = counted.get(kind, 0) + 1
    recurrence = recurrence_of(read) if family.mixer != "attention" else None
    return tuple(
        replace(
            _layer_shape(read, family, sizes, kind, count),
            own=replace(sizes, width=_width(read, family, sizes) if kind.feed else 0),
            recurrence=recurrence if set(kind.mixers) - {"attention"} else None,
            attends="attention" in kind.mixers,
        )
        for kind, count in counted.items()
    )


def _layer_shape(read: ConfigReader, family: Family, sizes: Sizes, kind: LayerKind, count: int) -> LayerShape:
    kept = family.norms * norm_parameters(family, sizes.hidden) + family.extra_kept
    linears: tuple[Linear, ...] = ()
    for mixer in kind.mixers:
        own, more = _mixer(mixer, read, family, sizes)
        linears, kept = linears + own, kept + more
    if kind.feed == "dense":
        width = _width(read, family, sizes)
        return LayerShape(count, linears + _mlp_linears(read, family, sizes.hidden, width), kept)
    if kind.feed == "experts":
        shared = _shared_expert(read, family, sizes.hidden)
        latent = read.number("moe_latent_size")
        between = (Linear("fc1_latent_proj", sizes.hidden, latent), Linear("fc2_latent_proj", latent, sizes.hidden))
        matrices = (3 if family.gated else 2) * (latent or sizes.hidden)
        return LayerShape(
            count,
            linears + (between if latent else ()) + shared,
            kept + _router_parameters(read, family, sizes.hidden),
            matrices * read.size(family.expert_width_key) * read.experts(),
        )
    return LayerShape(count, linears, kept)


def _width(read: ConfigReader, family: Family, sizes: Sizes) -> int:
    return read.number(family.mlp_width_key) or sizes.width


def _mixer(mixer: str, read: ConfigReader, family: Family, sizes: Sizes) -> tuple[tuple[Linear, ...], int]:
    """Return the linear layers of what mixes tokens in a layer, and its other parameters."""
    match mixer:
        case "delta":
            return _delta_rule(read, sizes.hidden)
        case "state_space":
            return _mamba(read, family, sizes.hidden)
        case "convolution":
            return _convolution(read, sizes.hidden)
    kept = _kept_by_attention(read, family, sizes)
    if family.latent_attention:
        return _latent_linears(read, sizes), kept
    return _attention_linears(read, family, sizes), kept


def mlp_width(read: ConfigReader) -> int:
    """Return the width of the MLP of a dense layer, or of an expert where a model has no other."""
    if read.family.experts and not read.number("intermediate_size"):
        return read.size(read.family.expert_width_key)
    width = read.size("intermediate_size")
    if not read.flag("block_auto_adjust_ff_dim"):
        return width
    unit = read.number("block_multiple_of") or 256
    width = int((read.value("block_ffn_dim_multiplier") or 1) * (2 * width // 3))
    return unit * -(-width // unit)


def query_norm(read: ConfigReader, family: Family) -> Literal["", "head", "full"]:
    """Return which norm queries and keys go through: of each head's width, of the full width, or none."""
    if family.query_norm_key and not read.flag(family.query_norm_key):
        return ""
    return family.query_norm


def norm_parameters(family: Family, width: int) -> int:
    """Return the number of parameters of one norm."""
    return {"rms": width, "layer_plain": width, "layer": 2 * width, "none": 0}[family.norm]


def _attention_linears(read: ConfigReader, family: Family, sizes: Sizes) -> tuple[Linear, ...]:
    query, keys = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    *inner, last = family.attention_names
    asked = 2 * query if family.gated_attention else query
    widths = (query + 2 * keys,) if len(inner) == 1 else (asked, keys, keys)
    bias = read.flag(family.qkv_bias)
    into = tuple(
        Linear(name, sizes.hidden, width, "attention_in", bias) for name, width in zip(inner, widths, strict=True)
    )
    return (*into, Linear(last, query, sizes.hidden, "attention_out", read.flag(family.o_bias)))


def _delta_rule(read: ConfigReader, hidden: int) -> tuple[tuple[Linear, ...], int]:
    """A gated delta rule, whose projections Qwen3-Next has as two and Qwen3.5 as four."""
    heads = read.size("linear_num_value_heads")
    keys = read.size("linear_num_key_heads") * read.size("linear_key_head_dim")
    values = heads * read.size("linear_value_head_dim")
    into = {"in_proj_qkv": 2 * keys + values, "in_proj_z": values, "in_proj_b": heads, "in_proj_a": heads}
    if read.family.fused_delta:
        into = {"in_proj_qkvz": 2 * (keys + values), "in_proj_ba": 2 * heads}
    linears = tuple(Linear(name, hidden, width, "attention_in") for name, width in into.items())
    convolution = (2 * keys + values) * read.size("linear_conv_kernel_dim")
    kept = convolution + read.size("linear_value_head_dim") + 2 * heads
    return (*linears, Linear("out_proj", values, hidden, "attention_out")), kept


def _mamba(read: ConfigReader, family: Family, hidden: int) -> tuple[tuple[Linear, ...], int]:
    """A Mamba-2 mixer."""
    heads = read.size("mamba_n_heads")
    inner = read.number("mamba_d_ssm") or heads * read.size("mamba_d_head")
    convolved = inner + 2 * read.size("mamba_n_groups") * read.size("mamba_d_state")
    bias = read.flag(family.mamba_bias)
    linears = (
        Linear("in_proj", hidden, inner + convolved + heads, "attention_in", bias),
        Linear("out_proj", inner, hidden, "attention_out", read.flag(family.mamba_out_bias)),
    )
    taps = read.size("mamba_d_conv") + read.flag("mamba_conv_bias")
    return linears, convolved * taps + 3 * heads + (inner if read.flag(family.mamba_norm) else 0)


def _convolution(read: ConfigReader, hidden: int) -> tuple[tuple[Linear, ...], int]:
    """A short convolution between two gates."""
    bias = read.flag("conv_bias")
    linears = (
        Linear("in_proj", hidden, 3 * hidden, "attention_in", bias),
        Linear("out_proj", hidden, hidden, "attention_out", bias),
    )
    return linears, hidden * (read.size("conv_L_cache") + bias)


def _latent_linears(read: ConfigReader, sizes: Sizes) -> tuple[Linear, ...]:
    rope, plain, value = (read.size(f"{part}_head_dim") for part in ("qk_rope", "qk_nope", "v"))
    kv_rank, q_rank = read.size("kv_lora_rank"), read.number("q_lora_rank")
    bias = read.flag(read.family.qkv_bias)
    width = sizes.heads * (rope + plain)
    query: tuple[Linear, ...] = (Linear("q_proj", sizes.hidden, width, "attention_in"),)
    if q_rank:
        query = (
            Linear("q_a_proj", sizes.hidden, q_rank, "attention_in", bias),
            Linear("q_b_proj", q_rank, width),
        )
    return (
        *query,
        Linear("kv_a_proj_with_mqa", sizes.hidden, kv_rank + rope, "attention_in", bias),
        Linear("kv_b_proj", kv_rank, sizes.heads * (plain + value)),
        Linear("o_proj", sizes.heads * value, sizes.hidden, "attention_out", bias),
    )


def _mlp_linears(read: ConfigReader, family: Family, hidden: int, width: int) -> tuple[Linear, ...]:
    *inner, last = family.mlp_names
    bias = read.flag(family.mlp_bias)
    wide = 2 * width if family.gated and len(inner) == 1 else width
    role: Role = "mlp_in"
    into = tuple(Linear(name, hidden, wide, role, bias) for name in inner)
    return (*into, Linear(last, width, hidden, "mlp_out", bias))


def _shared_expert(read: ConfigReader, family: Family, hidden: int) -> tuple[Linear, ...]:
    if width := read.number("shared_intermediate_size"):
        return _mlp_linears(read, family, hidden, width)
    if width := read.number("shared_expert_intermediate_size"):
        return (*_mlp_linears(read, family, hidden, width), Linear("shared_expert_gate", hidden, 1))
    if width := read.number("moe_shared_expert_intermediate_size"):
        return _mlp_linears(read, family, hidden, width)
    if shared := read.number("n_shared_experts"):
        return _mlp_linears(read, family, hidden, shared * read.size(family.expert_width_key))
    return ()


def _router_parameters(read: ConfigReader, family: Family, hidden: int) -> int:
    """Return the parameters of a router, and the biases of its experts."""
    width = read.size(family.expert_width_key)
    biases = ((2 * width + hidden) if family.expert_bias else 0) + (1 if family.router_bias else 0)
    return read.experts() * (hidden + biases)


def _kept_by_attention(read: ConfigReader, family: Family, sizes: Sizes) -> int:
    kept = sizes.heads if family.sinks else 0
    if family.latent_attention:
        kept += read.number("q_lora_rank") + read.number("kv_lora_rank")
    match query_norm(read, family):
        case "head" if family.query_norm_key and family.norm == "layer_plain":
            kept += (sizes.heads + sizes.kv_heads) * sizes.head_dim
        case "head":
            kept += 2 * sizes.head_dim
        case "full":
            kept += (sizes.heads + sizes.kv_heads) * sizes.head_dim
    return kept
