"""Bases that are stored quantized are known from config.json, and the original is named where something says it."""

import json
from pathlib import Path
from typing import Any

import pytest

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.stored_quantization import stored_quantization, without_quantization
from qlora_studio.storage.models.catalogue import model_catalogue
from qlora_studio.storage.models.quantized_base import (
    original_folder,
    original_of,
    quantized_words,
    refuse_known_quantized,
    refuse_quantized,
    refused_as_stored,
)

BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


def model(folder: Path, card: str = "", **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    if card:
        (folder / "README.md").write_text(f"---\n{card}\n---\n# A model\nbase_model: wrong/place\n")
    return folder


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"quantization_config": BNB}, "bitsandbytes in 4 bits"),
        ({"quantization_config": {"load_in_8bit": True}}, "bitsandbytes in 8 bits"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "GPTQ in 4 bits"),
        ({"quantization_config": {"quant_method": "awq", "w_bit": 4}}, "AWQ in 4 bits"),
        ({"quantization_config": {"quant_method": "fp8"}}, "FP8"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "MXFP4"),
        ({"quantization_config": {"quant_method": "hqq"}}, "HQQ"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "compressed tensors"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed tensors"),
        ({"text_config": {"quantization_config": BNB}}, "bitsandbytes in 4 bits"),
        ({"quantization_config": {"quant_method": "of_tomorrow"}}, "of_tomorrow"),
        ({"quantization_config": {"bits": 2}}, "an unknown method in 2 bits"),
        ({"quantization_config": None}, ""),
        ({"quantization_config": {}}, ""),
        ({}, ""),
    ],
)
def test_the_way_of_storing_is_read_from_the_config(config: dict[str, Any], words: str) -> None:
    assert stored_quantization(config) == words


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("unsloth/Llama-3.2-1B-Instruct-bnb-4bit", "Llama-3.2-1B-Instruct"),
        ("unsloth/Qwen3-8B-unsloth-bnb-4bit", "Qwen3-8B"),
        ("TheBloke/Llama-2-7B-Chat-GPTQ", "Llama-2-7B-Chat"),
        ("Qwen/Qwen3-8B-AWQ", "Qwen3-8B"),
        ("Qwen/Qwen3-8B-FP8", "Qwen3-8B"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "Qwen2.5-7B-Instruct"),
        ("RedHatAI/Qwen3-8B-FP8-dynamic", "Qwen3-8B"),
        ("RedHatAI/Qwen3-8B-quantized.w4a16", "Qwen3-8B"),
        ("Qwen/Qwen3-8B", "Qwen3-8B"),
    ],
)
def test_a_name_is_known_without_its_suffix(name: str, plain: str) -> None:
    assert without_quantization(name) == plain


def test_the_model_card_names_the_original(tmp_path: Path) -> None:
    listed = model(tmp_path / "a", "license: mit\nbase_model:\n- alice/whole\nbase_model_relation: quantized")
    alone = model(tmp_path / "b", 'base_model: "alice/whole"')
    assert original_of(listed, "") == original_of(alone, "bob/whole-AWQ") == "alice/whole"


def test_a_card_that_names_a_quantized_copy_or_itself_does_not_name_the_original(tmp_path: Path) -> None:
    folder = model(tmp_path / "a", "base_model:\n- alice/whole-GPTQ\n- bob/copy", _name_or_path="alice/whole")
    assert original_of(folder, "bob/copy") == "alice/whole"


def test_else_the_config_and_at_last_the_catalogue_name_it(tmp_path: Path) -> None:
    by_config = model(tmp_path / "a", _name_or_path="alice/whole")
    assert original_of(by_config, "bob/copy") == "alice/whole"
    by_name = model(tmp_path / "Qwen3-8B-bnb-4bit", _name_or_path="/home/somebody/checkpoint")
    assert original_of(by_name, "unsloth/Qwen3-8B-bnb-4bit") == original_of(by_name, str(by_name)) == "Qwen/Qwen3-8B"
    assert original_of(by_name, "bob/nobody-knows-this-bnb-4bit") == ""


def test_it_is_refused_by_its_name_with_the_original_as_advice(tmp_path: Path) -> None:
    folder = model(tmp_path / "a", "base_model: alice/whole", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(StudioError) as raised:
        refuse_quantized(folder, "bob/copy")
    assert raised.value.kind is FailureKind.MODEL_REFUSED
    assert raised.value.message.startswith("bob/copy is stored quantized (GPTQ in 4 bits)")
    assert "alice/whole" in raised.value.advice and "alice/whole" in quantized_words(folder, "bob/copy")


def test_4_bits_of_bitsandbytes_are_taken_where_the_original_is_here(tmp_path: Path) -> None:
    whole = model(tmp_path / "whole")
    folder = model(tmp_path / "a", quantization_config=BNB)
    refuse_quantized(folder, str(folder), str(whole))
    assert original_folder(folder, str(folder), str(whole)) == whole


def test_they_are_taken_from_the_hubs_cache_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = model(tmp_path / "a", "base_model: alice/whole", quantization_config=BNB)
    assert quantized_words(folder, "bob/copy") == (
        "Stored in 4 bits, and trained as it is. What is trained is merged into its original, alice/whole, which is "
        "not here yet: download it before you train."
    )
    with pytest.raises(StudioError, match="alice/whole: it is not here") as raised:
        refuse_quantized(folder, "bob/copy")
    assert "qlora-studio download alice/whole." in raised.value.advice
    refuse_quantized(folder, "bob/copy", merges=False)
    snapshot = model(tmp_path / "models--alice--whole" / "snapshots" / "main")
    (snapshot / "model.safetensors").touch()
    refuse_quantized(folder, "bob/copy")
    assert original_folder(folder, "bob/copy") == snapshot
    assert quantized_words(folder, "bob/copy").endswith("alice/whole, which is here.")


def test_a_whole_copy_beside_it_is_taken_where_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = model(tmp_path / "a", "base_model: alice/whole", quantization_config=BNB)
    snapshot = model(tmp_path / "models--bob--whole" / "snapshots" / "main")
    (snapshot / "model.safetensors").touch()
    assert original_folder(folder, "bob/whole-bnb-4bit") == snapshot
    assert "its original, bob/whole, which is here" in quantized_words(folder, "bob/whole-bnb-4bit")


def test_without_an_original_they_are_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = model(tmp_path / "a", quantization_config=BNB)
    with pytest.raises(StudioError, match="nothing in it says which 16-bit model") as raised:
        refuse_quantized(folder, "bob/nobody-knows-this-bnb-4bit", merges=False)
    assert "quantization.original" in raised.value.advice
    assert "once you name its 16-bit original" in quantized_words(folder, "bob/nobody-knows-this-bnb-4bit")


def test_an_original_that_is_quantized_itself_is_none(tmp_path: Path) -> None:
    folder = model(tmp_path / "a", quantization_config=BNB)
    other = model(tmp_path / "b", quantization_config={"quant_method": "fp8"})
    with pytest.raises(StudioError, match=r"is stored quantized too \(FP8\)"):
        refuse_quantized(folder, "bob/copy", str(other))


def test_8_bits_of_bitsandbytes_are_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "a", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    with pytest.raises(StudioError, match="bitsandbytes in 8 bits"):
        refuse_quantized(folder, "bob/copy", str(model(tmp_path / "whole")))


def test_a_model_that_is_stored_whole_is_taken(tmp_path: Path) -> None:
    folder = model(tmp_path / "a", "base_model: alice/whole")
    refuse_quantized(folder, "bob/finetuned")
    assert quantized_words(folder, "bob/finetuned") == ""


def test_a_model_of_the_catalogue_is_refused_before_it_is_downloaded() -> None:
    source = "mistralai/Devstral-Small-2-24B-Instruct-2512"
    with pytest.raises(StudioError) as raised:
        refuse_known_quantized(source)
    assert "(FP8)" in raised.value.message
    assert quantized_words(None, source).startswith("Stored quantized (FP8)")
    assert quantized_words(None, "Qwen/Qwen3-8B") == quantized_words(None, "nobody/nothing") == ""
    refuse_known_quantized("Qwen/Qwen3-8B")
    refuse_known_quantized("nobody/nothing")


def test_what_is_written_out_in_16_bits_says_what_that_takes() -> None:
    assert quantized_words(None, "openai/gpt-oss-20b") == (
        "Stored in MXFP4. When it is first used, it is written out in 16 bits: 39.0 GiB in the cache."
    )


def test_the_catalogue_tells_which_of_its_models_no_run_starts_from() -> None:
    refused = {model.id: stored for model in model_catalogue() if (stored := refused_as_stored(model))}
    assert refused["mistralai/Devstral-Small-2-24B-Instruct-2512"] == "FP8"
    assert "openai/gpt-oss-20b" not in refused and "Qwen/Qwen3-8B" not in refused
