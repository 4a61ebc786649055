"""The types of a GGUF's tensors: llama.cpp's mixtures, as its quantizer chooses."""

import pytest

from qlora_studio.engine.gguf.mixture import tensor_types


def shapes(layers: int, columns: int = 256, *, fused: bool = False, tied: bool = True) -> dict[str, tuple[int, ...]]:
    attention = ["attn_qkv"] if fused else ["attn_q", "attn_k", "attn_v"]
    names = [*attention, "attn_output", "ffn_up", "ffn_down"]
    found = {f"blk.{layer}.{name}.weight": (512, columns) for layer in range(layers) for name in names}
    head = {} if tied else {"output.weight": (320, columns)}
    return {"token_embd.weight": (320, columns), "output_norm.weight": (columns,)} | head | found


def layers_with(types: dict[str, str], name: str, kind: str) -> list[int]:
    return [int(key.split(".")[1]) for key, value in types.items() if f".{name}." in key and value == kind]


@pytest.mark.parametrize(("file_type", "most"), [("Q4_K_M", "Q4_K"), ("Q5_K_M", "Q5_K")])
def test_values_and_down_projections_of_some_layers_get_more_in_a_medium_mixture(file_type: str, most: str) -> None:
    types = tensor_types(shapes(24), file_type, architecture="qwen2", layers=24)
    more = [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]
    assert layers_with(types, "attn_v", "Q6_K") == more
    assert layers_with(types, "ffn_down", "Q6_K") == more
    assert layers_with(types, "ffn_up", most) == list(range(24))
    assert types["token_embd.weight"] == "Q6_K"
    assert types["output_norm.weight"] == "F32"


def test_the_first_layers_get_more_in_a_small_mixture() -> None:
    types = tensor_types(shapes(24), "Q4_K_S", architecture="qwen2", layers=24)
    assert layers_with(types, "attn_v", "Q5_K") == [0, 1, 2, 3]
    assert layers_with(types, "ffn_down", "Q5_K") == [0, 1, 2]


def test_three_bits_are_for_what_matters_least() -> None:
    types = tensor_types(shapes(32), "Q3_K_M", architecture="llama", layers=32)
    assert layers_with(types, "attn_v", "Q5_K") == layers_with(types, "ffn_down", "Q5_K") == [0, 1]
    assert layers_with(types, "attn_output", "Q4_K") == layers_with(types, "attn_k", "Q3_K") == list(range(32))


def test_fused_attention_counts_as_values() -> None:
    types = tensor_types(shapes(8, fused=True), "Q4_K_M", architecture="phi3", layers=8)
    assert layers_with(types, "attn_qkv", "Q6_K") == [0, 3, 6, 7]


def test_an_embedding_beside_a_head_of_its_own_is_as_most_tensors() -> None:
    types = tensor_types(shapes(2, tied=False), "Q4_K_M", architecture="llama", layers=2)
    assert (types["output.weight"], types["token_embd.weight"]) == ("Q6_K", "Q4_K")


@pytest.mark.parametrize(
    ("file_type", "columns", "kind"),
    [
        ("Q4_K_M", 96, "Q5_0"),
        ("Q5_K_M", 96, "Q5_1"),
        ("Q6_K", 96, "Q8_0"),
        ("Q3_K_M", 96, "Q4_0"),
        ("Q4_K_M", 80, "F16"),
    ],
)
def test_rows_that_are_no_whole_blocks_get_another_type(file_type: str, columns: int, kind: str) -> None:
    types = tensor_types(shapes(8, columns), file_type, architecture="llama", layers=8)
    assert types["blk.1.ffn_up.weight"] == kind
    assert types["token_embd.weight"] == ("F16" if columns == 80 else "Q8_0")


def test_the_small_tensors_of_eight_experts_get_more() -> None:
    types = tensor_types(shapes(8), "Q4_K_M", architecture="llama", layers=8, experts=8)
    assert types["blk.1.attn_v.weight"] == types["blk.1.attn_k.weight"] == "Q8_0"
    assert types["blk.1.attn_output.weight"] == "Q5_K"


def test_what_chooses_experts_stays_whole() -> None:
    found = tensor_types({"blk.0.ffn_gate_inp.weight": (8, 256)}, "Q8_0", architecture="llama", layers=1)
    assert found == {"blk.0.ffn_gate_inp.weight": "F32"}


_SIZES = {"Q8_0": 32, "Q4_0": 32, "Q5_0": 32, "Q5_1": 32, "Q3_K": 256, "Q4_K": 256, "Q5_K": 256, "Q6_K": 256}
_OTHERWISE = {"Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def as_llama_cpp_goes_through_a_file(
    shapes: dict[str, tuple[int, ...]], file_type: str, architecture: str, layers: int, experts: int
) -> dict[str, str]:
    """Choose types as llama-quantize does: tensor by tensor in the order of its map, with counters that run along.

    Written from what src/llama-quant.cpp does (of 2026), by nobody who looked at the code under test meanwhile.
    """

    def place(name: str) -> tuple[int, str]:
        parts = name.split(".")
        return (int(parts[1]) if parts[0] == "blk" else -1, name)

    def more(index: int, count: int) -> bool:
        return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2

    def is_value(name: str) -> bool:
        return any(part in name for part in ("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"))

    default = file_type.removesuffix("_M").removesuffix("_S")
    values, tied = sum(map(is_value, shapes)), "output.weight" not in shapes
    value, down = 0, 0
    found = {}
    for name in sorted(shapes, key=place):
        shape, kind = shapes[name], default
        kept = ("_norm.weight", "ffn_gate_inp.weight", "ssm_conv1d")
        if any(part in name for part in ("altup", "laurel", "per_layer_model_proj")):
            found[name] = "F16"  # as in the file that it reads
            continue
        if len(shape) < 2 or not name.endswith("weight") or any(part in name for part in kept):
            found[name] = "F32"
            continue
        if name == "output.weight" or (tied and name in ("token_embd.weight", "per_layer_token_embd.weight")):
            falls = architecture == "falcon" or shape[-1] % _SIZES[default]
            kind = "Q8_0" if falls or default == "Q8_0" else "Q6_K"
        elif "token_embd" in name:
            pass
        elif is_value(name):
            if file_type == "Q3_K_M":
                kind = "Q5_K" if value < 2 else "Q4_K"
            elif file_type in ("Q4_K_M", "Q5_K_M") and more(value, values):
                kind = "Q6_K"
            elif file_type == "Q4_K_S" and value < 4:
                kind = "Q5_K"
            grouped = shapes["blk.0.attn_v.weight"] != shapes["blk.0.attn_q.weight"] if "attn_v" in name else True
            is_70b = layers == 80 and architecture in ("llama", "qwen2") and grouped
            if is_70b and kind in ("Q3_K", "Q4_K"):
                kind = "Q5_K"
            kind = "Q8_0" if experts == 8 else kind
            value += 1
        elif "attn_k.weight" in name:
            kind = "Q8_0" if experts == 8 else kind
        elif "ffn_down" in name:
            layer = place(name)[0] if experts > 1 else down
            if file_type == "Q3_K_M":
                high = architecture != "falcon" or more(layer, layers)
                kind = "Q5_K" if layer < layers // 16 else "Q4_K" if high else "Q3_K"
            elif file_type == "Q4_K_M" and architecture == "falcon":
                kind = "Q6_K" if layer < layers // 16 else "Q5_K" if more(layer, layers) else "Q4_K"
            elif file_type in ("Q4_K_M", "Q5_K_M") and more(layer, layers):
                kind = "Q6_K"
            elif file_type == "Q4_K_S" and architecture != "falcon" and layer < layers // 8:
                kind = "Q5_K"
            down += 1
        elif "attn_output.weight" in name and architecture != "falcon":
            if experts == 8:
                kind = "Q5_K" if file_type in ("Q3_K_M", "Q4_K_S", "Q4_K_M") else kind
            elif file_type == "Q3_K_M":
                kind = "Q4_K"
        if shape[-1] % _SIZES[kind]:
            kind = _OTHERWISE[kind]
        found[name] = kind if shape[-1] % _SIZES[kind] == 0 else "F16"
    return found


@pytest.mark.parametrize("file_type", ["Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0"])
@pytest.mark.parametrize(
    ("architecture", "layers", "experts"),
    [
        ("llama", 1, 0),
        ("llama", 30, 0),
        ("llama", 80, 0),
        ("qwen2", 28, 0),
        ("falcon", 32, 0),
        ("phi3", 33, 0),
        ("llama", 32, 8),
        ("qwen3moe", 48, 128),
        ("gemma3n", 35, 0),
    ],
)
@pytest.mark.parametrize("columns", [256, 96])
def test_every_tensor_gets_the_type_that_llama_cpp_s_own_walk_gives_it(
    file_type: str, architecture: str, layers: int, experts: int, columns: int
) -> None:
    """Fused and grouped attention, heads tied and not, dense layers before experts, experts beside shared ones."""
    for tied in (True, False):
        for grouped in (True, False):
            found = {"token_embd.weight": (320, columns), "output_norm.weight": (columns,)}
            found |= {} if tied else {"output.weight": (320, columns)}
            if architecture == "gemma3n":
                found |= {"per_layer_token_embd.weight": (320, columns)}
                found |= {} if file_type == "Q8_0" else {"per_layer_model_proj.weight": (64, columns)}
            for layer in range(layers):
                block = {"attn_norm": (columns,), "attn_output": (columns, columns), "ffn_up": (512, columns)}
                if architecture in ("phi3", "falcon"):
                    block |= {"attn_qkv": (3 * columns, columns)}
                else:
                    block |= {"attn_q": (columns, columns), "attn_k": (64, columns)}
                    block |= {"attn_v": (64 if grouped else columns, columns)}
                if experts and layer > 1:
                    block |= {"ffn_gate_inp": (experts, columns), "ffn_down_exps": (experts, columns, 512)}
                    block |= {"ffn_down_shexp": (columns, 512)}
                else:
                    block |= {"ffn_down": (columns, 512)}
                found |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
            expected = as_llama_cpp_goes_through_a_file(found, file_type, architecture, layers, experts)
            assert tensor_types(found, file_type, architecture=architecture, layers=layers, experts=experts) == expected
