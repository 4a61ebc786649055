"""Models on this machine: found, described, and refused where loading them would run a stranger's code."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from qlora_studio.core.errors import StudioError
from qlora_studio.storage.models.gguf_header import read_gguf_header
from qlora_studio.storage.models.location import ModelLocation, locate_model, model_facts
from qlora_studio.storage.models.safetensors_header import read_safetensors_header

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "some-model"
    path.mkdir()
    _write_config(path)
    save_file({"model.embed_tokens.weight": np.zeros((100, 64), np.float16)}, path / "model.safetensors")
    return path


def _write_config(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))


def _facts(folder: Path) -> Any:
    return model_facts(locate_model(str(folder)))


def _refusal(folder: Path) -> StudioError:
    with pytest.raises(StudioError) as refused:
        _facts(folder)
    assert refused.value.advice
    return refused.value


def test_the_starter_is_described_from_its_file() -> None:
    location = locate_model("starter")
    facts = model_facts(location)
    assert (location.kind, facts.architecture, facts.parameters, facts.layers) == ("gguf", "llama", 134_515_008, 30)
    assert facts.shape is not None
    assert facts.shape.parameters == facts.parameters
    assert facts.licence == "apache-2.0"
    assert facts.chat_template is not None
    assert "<|im_start|>" in facts.chat_template
    assert (facts.context_length, facts.vocabulary) == (8192, 49152)


def test_a_folder_is_described_from_its_config(folder: Path) -> None:
    facts = _facts(folder)
    assert (
        facts.shape.parameters
        == facts.parameters
        == 100 * 64 + 64 + 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 128)
    )
    assert (facts.layers, facts.hidden_size, facts.context_length, facts.vocabulary) == (2, 64, 512, 100)
    assert facts.weights_bytes == 100 * 64 * 2
    assert facts.stored_dtype == "F16"
    assert facts.chat_template is None


def test_a_file_and_a_folder_are_located_and_a_hub_id_without_a_download_has_no_path(folder: Path) -> None:
    assert locate_model(str(folder)).kind == "folder"
    assert locate_model("Qwen/Qwen3-8B") == ModelLocation("hub", "Qwen/Qwen3-8B", None)
    with pytest.raises(StudioError, match="not on this computer"):
        model_facts(locate_model("Qwen/Qwen3-8B"))


@pytest.mark.parametrize(
    "source", ["", "   ", "/no/such/folder", "no/such/file.gguf", "a b/c", "../x/y", "~no-such/x", "/" + 5000 * "x"]
)
def test_nonsense_is_not_found_and_the_advice_says_what_would_be(source: str) -> None:
    with pytest.raises(StudioError) as refused:
        locate_model(source)
    assert refused.value.kind == "model_not_found"
    assert "Qwen/Qwen3-8B" in refused.value.advice


def test_a_downloaded_model_is_found_in_the_hubs_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "hub" / "models--somebody--some-model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / "abc123")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert locate_model("somebody/some-model").path == repository / "snapshots" / "abc123"
    assert locate_model("somebody/some-model", "abc123").path == repository / "snapshots" / "abc123"
    assert locate_model("somebody/some-model", "other-branch").path is None


def test_the_chat_template_is_found_wherever_models_keep_it(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "from tokenizer"}))
    assert _facts(folder).chat_template == "from tokenizer"
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "named default"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert _facts(folder).chat_template == "named default"
    (folder / "chat_template.jinja").write_text("from its own file")
    assert _facts(folder).chat_template == "from its own file"


def test_the_licence_is_read_from_the_model_card(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\nlicense: not this\n")
    assert _facts(folder).licence == "apache-2.0"
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: qwen-research\n---\n")
    assert _facts(folder).licence == "qwen-research"


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "evil", "auto_map": {"AutoModelForCausalLM": "modeling.Evil"}},
        {"attn_implementation": "someone/evil-kernel"},
        {"_attn_implementation": "someone/evil-kernel@main"},
        {"model_type": "evil", "text_config": CONFIG | {"auto_map": {"AutoConfig": "x.Y"}}},
    ],
    ids=["code of its own", "attention from the hub", "attention under another name", "code in the text part"],
)
def test_a_model_that_brings_code_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    _write_config(folder, **changes)
    refusal = _refusal(folder)
    assert refusal.kind == "model_refused"
    assert "code" in refusal.message


def test_pickled_weights_are_refused_by_their_name(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refusal = _refusal(folder)
    assert refusal.kind == "model_refused"
    assert "pickled" in refusal.message


def test_a_folder_without_weights_or_without_a_config_is_told_apart(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no weights" in _refusal(folder).message
    (folder / "config.json").unlink()
    assert "config.json" in _refusal(folder).message


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _lie_about_the_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def _turn_into_a_web_page(path: Path) -> None:
    path.write_bytes(b"<!doctype html><html>404 Not Found</html>")


def _lie_about_a_shape(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"[100,64]", b"[100,65]"))


@pytest.mark.parametrize(
    "damage",
    [_cut_short, _cut_in_the_header, _empty, _lie_about_the_header, _turn_into_a_web_page, _lie_about_a_shape],
)
def test_a_damaged_safetensors_file_is_refused(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder / "model.safetensors")
    refusal = _refusal(folder)
    assert refusal.kind == "model_refused"
    assert "model.safetensors is damaged" in refusal.message


def test_a_missing_part_of_a_split_model_is_named(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002-of-00002.safetensors is missing" in _refusal(folder).message


def test_an_index_that_points_out_of_its_folder_is_refused(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    assert "outside" in _refusal(folder).message


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_broken_config_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert _refusal(folder).kind == "model_refused"


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"GGML" + bytes(100), b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60)]
)
def test_a_broken_gguf_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(StudioError) as refused:
        model_facts(locate_model(str(path)))
    assert refused.value.kind == "model_refused"


def test_a_gguf_header_lists_tensors_without_reading_the_vocabulary() -> None:
    path = locate_model("starter").path
    assert path is not None
    header = read_gguf_header(path)
    assert header.tensors["blk.0.ffn_down.weight"] == (1536, 576)
    assert header.metadata["tokenizer.ggml.tokens"] == 49152
    assert header.value("{arch}.block_count") == 30


def test_safetensors_entries_say_where_the_bytes_are(folder: Path) -> None:
    (entry,) = read_safetensors_header(folder / "model.safetensors").tensors.values()
    assert (entry.dtype, entry.shape, entry.end - entry.start) == ("F16", (100, 64), 12_800)
