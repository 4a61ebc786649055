"""The shared fixtures are what they say."""

import json
from pathlib import Path


def test_the_starter_model_is_converted_to_a_plain_folder(smollm_folder: Path) -> None:
    config = json.loads((smollm_folder / "config.json").read_text())

    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    assert (smollm_folder / "model.safetensors").stat().st_size > 250_000_000


def test_the_tiny_llama_has_the_starter_models_tokenizer(tiny_llama: Path) -> None:
    assert json.loads((tiny_llama / "config.json").read_text())["vocab_size"] == 49152
    assert (tiny_llama / "tokenizer.json").is_file()


def test_a_display_without_a_screen_can_be_had(xvfb: str) -> None:
    assert xvfb.startswith(":")
