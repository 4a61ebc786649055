"""How a verification goes about it: small models whole, large ones layer by layer, over tokens that a time allows."""

import json
from pathlib import Path

import pytest
import torch

from qlora_studio.engine.verification.way import way_of

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a card has other sizes")


def model_of(folder: Path, size: int) -> Path:
    """A folder that says it is a model of so many bytes: the file is a hole."""
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "llama", "hidden_size": 512, "num_hidden_layers": 24, "vocab_size": 320})
    )
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(size)
    return folder


def test_a_small_model_is_loaded_whole_and_a_large_one_layer_by_layer(tmp_path: Path) -> None:
    small, large = model_of(tmp_path / "small", 200 << 20), model_of(tmp_path / "large", 20 << 30)
    assert [way_of(base, models=4, minutes=10).name for base in (small, large)] == ["whole", "streamed"]
    assert way_of(large, models=4, minutes=10, wish="whole").name == "whole"
    assert way_of(small, models=4, minutes=10, wish="streamed").name == "streamed"


def test_tokens_go_by_the_time_that_is_given_and_are_256_at_least(tmp_path: Path) -> None:
    base = model_of(tmp_path / "base", 140 << 30)
    ways = [way_of(base, models=4, minutes=minutes) for minutes in (0.1, 30, 1e6)]
    assert [ways[0].tokens, ways[2].tokens] == [256, 4_000]
    assert 256 <= ways[1].tokens <= 4_000
    assert ways[0].seconds(256) > 6  # said as it is, where the least takes longer


def test_a_mixture_is_computed_with_its_chosen_experts_alone(tmp_path: Path) -> None:
    base = model_of(tmp_path / "base", 20 << 30)
    dense = way_of(base, models=4, minutes=0.1).seconds(256)
    config = json.loads((base / "config.json").read_text()) | {"num_experts": 64, "num_experts_per_tok": 2}
    (base / "config.json").write_text(json.dumps(config))
    assert way_of(base, models=4, minutes=0.1).seconds(256) < dense


def test_a_streamed_model_is_also_asked_whole_where_memory_and_time_allow(tmp_path: Path) -> None:
    base = model_of(tmp_path / "base", 1600 << 20)
    assert way_of(base, models=4, minutes=10).asks
    assert not way_of(base, models=4, minutes=1).asks
    assert not way_of(model_of(tmp_path / "large", 140 << 30), models=4, minutes=1e6).asks
    assert not way_of(base, models=4, minutes=10, wish="whole").asks
