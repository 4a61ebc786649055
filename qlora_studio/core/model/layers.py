"""A decoder layer: its linear layers by name and what else it holds, and its parameters counted family by family."""

from dataclasses import dataclass
from typing import Literal

from qlora_studio.core.model.config import ConfigReader
from qlora_studio.core.model.family import Family

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

    `own` are its sizes where they are not the model's.
    """

    count: int
    linears: tuple[Linear, ...]
    kept: int
    experts: int = 0
    own: Sizes | None = None

    @property
    def quantizable(self) -> int:
        """Weights of the linear layers, of one layer."""
        return sum(linear.parameters for linear in self.linears)

    @property
    def biases(self) -> int:
        """Biases of the linear layers, of one layer; they stay in 16 bit."""
        return sum(linear.outputs for linear in self.linears if linear.bias)


def layer_shapes(read: ConfigReader, family: Family, sizes: Sizes) -> tuple[LayerShape, ...]:
    """Return the kinds of decoder layers that a config describes."""
    layers = read.size("num_hidden_layers")
    attention = _latent_linears(read, sizes) if family.latent_attention else _attention_linears(read, family, sizes)
    kept = _kept_parameters(read, family, sizes)
    if family.linear_attention:
        full = _full_attention_layers(read, layers)
        mlp = _mlp_linears(read, family, sizes.hidden, sizes.width)
        return (
            LayerShape(layers - full, *_linear_attention(read, family, sizes, mlp)),
            LayerShape(full, attention + mlp, kept),
        )
    dense_layers = layers - _expert_layers(read, family, layers)
    dense = LayerShape(dense_layers, attention + _mlp_linears(read, family, sizes.hidden, sizes.width), kept)
    if dense_layers == layers:
        return (dense,)
    sparse = LayerShape(
        layers - dense_layers,
        attention + _shared_expert(read, family, sizes.hidden),
        kept + _router_parameters(read, family, sizes.hidden),
        3 * sizes.hidden * read.size(family.expert_width_key) * read.experts(),
    )
    return (dense, sparse) if dense_layers else (sparse,)


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


def _full_attention_layers(read: ConfigReader, layers: int) -> int:
    if kinds := read.value("layer_types"):
        return sum(kind == "full_attention" for kind in kinds)
    return layers // read.size("full_attention_interval")


def _linear_attention(
    read: ConfigReader, family: Family, sizes: Sizes, mlp: tuple[Linear, ...]
) -> tuple[tuple[Linear, ...], int]:
    """Return the linear layers and the other parameters of a layer of gated delta rule."""
    heads = read.size("linear_num_value_heads")
    keys = read.size("linear_num_key_heads") * read.size("linear_key_head_dim")
    values = heads * read.size("linear_value_head_dim")
    into = {"in_proj_qkv": 2 * keys + values, "in_proj_z": values, "in_proj_b": heads, "in_proj_a": heads}
    linears = tuple(Linear(name, sizes.hidden, width, "attention_in") for name, width in into.items())
    convolution = (2 * keys + values) * read.size("linear_conv_kernel_dim")
    norms = family.norms * norm_parameters(family, sizes.hidden) + read.size("linear_value_head_dim")
    return (*linears, Linear("out_proj", values, sizes.hidden, "attention_out"), *mlp), convolution + norms + 2 * heads


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
    if width := read.number("shared_expert_intermediate_size"):
        return (*_mlp_linears(read, family, hidden, width), Linear("shared_expert_gate", hidden, 1))
    if shared := read.number("n_shared_experts"):
        return _mlp_linears(read, family, hidden, shared * read.size(family.expert_width_key))
    return ()


def _expert_layers(read: ConfigReader, family: Family, layers: int) -> int:
    if not read.experts():
        return 0
    if family.latent_attention:
        return max(0, layers - read.number("first_k_dense_replace"))
    step = read.number("decoder_sparse_step") or 1
    dense = set(read.value("mlp_only_layers") or ())
    return sum(1 for layer in range(layers) if layer not in dense and (layer + 1) % step == 0)


def _router_parameters(read: ConfigReader, family: Family, hidden: int) -> int:
    """Return the parameters of a router, and the biases of its experts."""
    width = read.size(family.expert_width_key)
    biases = ((2 * width + hidden) if family.expert_bias else 0) + (1 if family.router_bias else 0)
    return read.experts() * (hidden + biases)


def _kept_parameters(read: ConfigReader, family: Family, sizes: Sizes) -> int:
    kept = family.norms * norm_parameters(family, sizes.hidden) + family.extra_kept
    if family.latent_attention:
        kept += read.number("q_lora_rank") + read.number("kv_lora_rank")
    if family.sinks:
        kept += sizes.heads
    match query_norm(read, family):
        case "head" if family.query_norm_key:
            kept += (sizes.heads + sizes.kv_heads) * sizes.head_dim
        case "head":
            kept += 2 * sizes.head_dim
        case "full":
            kept += (sizes.heads + sizes.kv_heads) * sizes.head_dim
    return kept
