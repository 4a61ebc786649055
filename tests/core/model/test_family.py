"""The table of model families: each fact of a family is read from its record, whoever asks."""

from pathlib import Path

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.core.model.family import (
    FAMILIES,
    LLAMA,
    Family,
    nearest_family,
    wrapped_family,
)
from qlora_studio.core.model.gguf_family import GGUF_FAMILIES, GgufTraits, family_of_gguf, gguf_traits, gguf_words
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.storage.models.gguf_header import GgufHeader, gguf_config


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("llama", "llama"),
        ("gemma3", "gemma3_text"),
        ("qwen3moe", "qwen3_moe"),
        ("gpt-oss", "gpt_oss"),
        ("rwkv", "rwkv"),
    ],
)
def test_an_architecture_of_llama_cpp_is_a_family_of_transformers(architecture: str, name: str) -> None:
    assert family_of_gguf(architecture) == name


@pytest.mark.parametrize(
    ("name", "tied", "transposed"),
    [
        ("gemma2", True, False),
        ("gemma3n_text", True, False),
        ("gemma3", True, False),
        ("cohere2_vision", True, False),
        ("gpt2", True, True),
        ("imagegpt", False, True),
        ("qwen2_5_vl", False, False),
        ("nothing_like_it", False, False),
        ("", False, False),
    ],
)
def test_how_a_model_is_stored_is_that_of_the_family_whose_name_comes_nearest(
    name: str, tied: bool, transposed: bool
) -> None:
    family = nearest_family(name)
    assert (family.tied, family.transposed) == (tied, transposed)


@pytest.mark.parametrize(
    ("wrapper", "inner"), [("gemma3", "gemma3_text"), ("mistral3", "mistral"), ("llama4", "llama4_text"), ("", "")]
)
def test_the_family_inside_a_model_that_sees_pictures_is_known_by_its_wrapper(wrapper: str, inner: str) -> None:
    assert wrapped_family(wrapper) == inner


def test_a_family_that_llama_cpp_does_not_know_is_not_written_as_gguf() -> None:
    with pytest.raises(StudioError, match="reformer are not among those that were tested"):
        gguf_traits({"model_type": "reformer"})


def test_a_model_that_llama_cpp_would_compute_otherwise_is_not_written_as_gguf() -> None:
    with pytest.raises(StudioError, match="norm_topk_prob is True; here it is False"):
        gguf_traits({"model_type": "qwen3_moe", "norm_topk_prob": False})


def test_a_new_family_arrives_by_its_record_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = GgufTraits(architecture="newt3", norm_offset=1.0)
    monkeypatch.setitem(FAMILIES, "newt", Family(query_norm="head", tied=True))
    monkeypatch.setitem(GGUF_FAMILIES, "newt", gguf)
    header = GgufHeader({"general.architecture": "newt3", "newt3.embedding_length": 64}, {})
    config = gguf_config(header)
    assert config["model_type"] == "newt"
    assert gguf_traits(config) is gguf
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 100}
    newt, llama = (shape_from_config({"hidden_size": 64, **sizes, "model_type": name}) for name in ("newt", "llama"))
    assert newt.exact
    assert newt.parameters == llama.parameters - 100 * 64 + 2 * 16


def test_only_one_class_of_the_product_is_called_family() -> None:
    root = Path(__file__).parents[3] / "qlora_studio"
    named = [path for path in root.rglob("*.py") if "\nclass Family" in path.read_text("utf-8")]
    assert [path.relative_to(root).as_posix() for path in named] == ["core/model/family.py"]
    assert FAMILIES["granite"] == LLAMA  # and is not written as a llama's GGUF


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "qwen3"}, "as llama.cpp's qwen3"),
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}, "as llama.cpp's gemma3"),
        ({"model_type": "reformer"}, "not written: Models of the kind reformer are not among those that were tested."),
    ],
)
def test_what_becomes_of_a_model_as_gguf_is_said_by_its_config(config: dict[str, object], words: str) -> None:
    assert gguf_words(config) == words
