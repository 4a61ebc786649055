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
