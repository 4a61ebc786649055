"""What a run and an export will take on disk, known before they begin."""

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.export.disk_need import adapter_bytes, checkpoint_bytes, export_bytes, run_needs
from qlora_studio.core.export.formats import parse_format
from qlora_studio.core.model.shape import shape_from_config

SHAPE = shape_from_config(
    {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    }
)
CONFIG = RunConfig()


def _sizes(config: RunConfig, **more: object) -> dict[str, int]:
    return {need.what: need.size for need in run_needs(config, SHAPE, **more)}  # type: ignore[arg-type]


def test_checkpoints_are_those_to_keep_the_best_and_one_in_the_making() -> None:
    config = CONFIG.with_value("checkpoint.keep", 5)
    needs = [need.size for need in run_needs(config.with_value("export.merge", False), SHAPE)]
    assert sum(needs) == 7 * checkpoint_bytes(config, SHAPE)
    assert adapter_bytes(config, SHAPE) == 2 * 4_884_480
    assert checkpoint_bytes(config, SHAPE) == pytest.approx(10 * 4_884_480, rel=0.03)
    assert checkpoint_bytes(config, SHAPE, on_card=False) == pytest.approx(6 * 4_884_480, rel=0.05)
    eight = config.with_value("training.optimizer", "paged_adamw_8bit")
    assert checkpoint_bytes(eight, SHAPE) == pytest.approx(4.03 * 4_884_480, rel=0.06)


def test_exports_at_the_end_count_and_only_where_they_are_asked_for() -> None:
    config = CONFIG.with_value("export.formats", ["safetensors", "gguf:q4_K_M"])
    sizes = _sizes(config)
    assert sizes["merged model"] == pytest.approx(2 * SHAPE.parameters, rel=0.06)
    assert SHAPE.parameters / 2 < sizes["GGUF q4_K_M"] < 1.1 * SHAPE.parameters, "there is no 16-bit file on the way"
    assert "merged model" not in _sizes(config.with_value("export.merge", False))


def test_the_cache_counts_for_a_gguf_base_and_for_prepared_data() -> None:
    needs = run_needs(CONFIG, SHAPE, convert=True, tokens=1_000_000)
    cached = {need.what: need.size for need in needs if need.place == "cache"}
    assert cached["the base in 16 bit"] > 2 * SHAPE.parameters
    assert cached["prepared data"] > 8_000_000
    assert not [need for need in run_needs(CONFIG, SHAPE) if need.place == "cache"]


def test_an_adapter_alone_takes_no_more_than_itself() -> None:
    size = export_bytes(parse_format("adapter"), SHAPE.parameters, 10_000_000, tokenizer=3_000_000)
    assert size == pytest.approx(13_000_000, rel=0.1)
