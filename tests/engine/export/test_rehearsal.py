"""What a run is to export in its end is found out before its first step: kind of model, numbers, tokenizer, package."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.engine.export.rehearsal import require_formats
from tests.engine.families import make_base, make_tokenizer
from tests.engine.mixtures import make_mixture


def wants(*formats: str, merge: bool = True) -> RunConfig:
    return RunConfig.model_validate({"export": {"formats": list(formats), "merge": merge}})


@pytest.mark.parametrize("formats", [("gguf:q4_K_M", "safetensors"), ("ollama",), ("gguf_adapter", "adapter")])
def test_what_can_be_written_is_said_nothing_about(tmp_path: Path, formats: tuple[str, ...]) -> None:
    require_formats(make_tokenizer(make_base(tmp_path / "base", "llama")), wants(*formats))
    assert not list(tmp_path.glob("*.gguf"))


def test_a_kind_that_llama_cpp_computes_otherwise_is_refused_by_name(tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", "qwen3_moe", norm_topk_prob=False)
    require_formats(base, wants("safetensors"))
    require_formats(base, wants("gguf:q8_0", merge=False))
    with pytest.raises(StudioError, match="norm_topk_prob is True"):
        require_formats(base, wants("safetensors", "gguf:q8_0"))


def test_a_tokenizer_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    words = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(base)
    with pytest.raises(StudioError, match="tokenizer cannot be written into a GGUF"):
        require_formats(base, wants("ollama"))
