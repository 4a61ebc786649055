"""Files that are damaged, halved or made for another model are refused in words, and ties are kept or undone whole."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.merge.adapter_delta import read_adapter_config
from qlora_studio.engine.merge.safetensors_file import WeightsFolder, read_header
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.merge.writer import merge_adapter
from qlora_studio.storage.models.folder import INDEX
from tests.engine.families import make_adapter, make_base

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
Tensors = dict[str, torch.Tensor]
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
EMBEDDING = "model.embed_tokens.weight"


def edit(adapter: Path, change: Callable[[Tensors], None], **settings: Any) -> Path:
    """Change an adapter's tensors and settings."""
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, **settings}))
    return adapter


def raw(folder: Path, tensors: Tensors, config: dict[str, Any], name: str) -> Path:
    """Write a base or an adapter that no library would make."""
    folder.mkdir()
    save_file(tensors, folder / name)
    (folder / ("config.json" if name.startswith("model") else "adapter_config.json")).write_text(json.dumps(config))
    return folder


def low_rank(module: str) -> Tensors:
    name = f"base_model.model.{module}"
    return {f"{name}.lora_A.weight": torch.ones(2, 4), f"{name}.lora_B.weight": torch.ones(4, 2)}


def header(content: object) -> bytes:
    data = json.dumps(content).encode()
    return struct.pack("<Q", len(data)) + data


def nothing(tensors: Tensors) -> None:
    """Change nothing."""


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        (lambda t: t.update({f"{LAYER}.lora_strange": torch.ones(2)}), {}, "is of a kind that is not known here"),
        (lambda t: t.pop(f"{LAYER}.lora_B.weight"), {}, "only half of the update of model.layers.0.self_attn.q_proj"),
        (lambda t: t.update({f"{LAYER}.lora_B.weight": torch.ones(64, 9)}), {}, "has the shapes"),
        (lambda t: t.update({f"{LAYER}.lora_A.weight": torch.ones(4, 64, 1, 1)}), {}, "is a convolution"),
        (nothing, {"use_dora": True}, "has no magnitudes for"),
        (lambda t: t.update({f"{LAYER}.trainable_tokens_delta": torch.ones(2, 64)}), {}, "does not say which"),
    ],
    ids=["unknown part", "half", "shapes", "convolution", "no magnitudes", "no tokens"],
)
def test_an_adapter_that_is_not_whole_is_refused(
    change: Callable[[Tensors], None], settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = edit(make_adapter(tmp_path / "adapter", base), change, **settings)
    with pytest.raises(StudioError, match=words) as caught:
        merge_adapter(base, adapter, tmp_path / "out")
    assert caught.value.kind == "model_refused"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lora", "change", "settings", "words"),
    [
        ({}, lambda t: t.update({f"{LAYER}.lora_A.weight": torch.ones(4, 65)}), {}, "in the base and"),
        (
            {"target_modules": ["q_proj"], "lora_bias": True},
            lambda t: t.update({f"{LAYER}.lora_B.bias": torch.ones(65)}),
            {},
            "has another length in the adapter",
        ),
        (
            {"target_modules": ["q_proj"], "trainable_token_indices": [1, 5]},
            nothing,
            {"trainable_token_indices": [1, 9999]},
            "retrains tokens that",
        ),
        (
            {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
            lambda t: t.update({"base_model.model.lm_head.weight": torch.ones(320, 65)}),
            {},
            "in the base and",
        ),
    ],
    ids=["update", "bias of the update", "tokens", "head"],
)
def test_an_adapter_of_another_base_is_refused(
    lora: dict[str, Any], change: Callable[[Tensors], None], settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    base = make_base(tmp_path / "base", "llama", attention_bias=True)
    adapter = edit(make_adapter(tmp_path / "adapter", base, **lora), change, **settings)
    with pytest.raises(StudioError, match=words) as caught:
        merge_adapter(base, adapter, tmp_path / "out")
    assert caught.value.kind == "fingerprint_mismatch"


@pytest.mark.parametrize(
    ("stored", "module", "words"),
    [
        ("attention.in_proj_weight", "attention", "fused attention of torch"),
        ("layers.0.q.weight", "lm_head", "which this base does not have"),
        ("layers.0.q.weight", "layers.1.q", "which this base does not have"),
    ],
)
def test_an_update_of_what_the_base_does_not_have_is_refused(
    stored: str, module: str, words: str, tmp_path: Path
) -> None:
    base = raw(tmp_path / "base", {stored: torch.ones(4, 4)}, {"model_type": "llama"}, "model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": [module]}
    adapter = raw(tmp_path / "adapter", low_rank(module), config, "adapter_model.safetensors")
    with pytest.raises(StudioError, match=words):
        MergedWeights(base, adapter, force=True)


def test_a_folder_without_an_adapters_settings_is_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(StudioError, match="is not an adapter") as caught:
        read_adapter_config(tmp_path)
    assert caught.value.kind == "model_not_found"


@pytest.mark.parametrize(
    ("data", "words", "kind"),
    [
        (struct.pack("<Q", 1 << 40), "its header is longer than the file", "model_refused"),
        (b"short", "its header is longer than the file", "model_refused"),
        (header(["no table"]), "its header is not readable", "model_refused"),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}), "of a is nonsense", "model_refused"),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}), "it should have", "model_refused"),
        (header({"a": {"dtype": "F8_E4M3", "shape": [0], "data_offsets": [0, 0]}}), "of type F8_E4M3", "model_refused"),
    ],
    ids=["long", "short", "no table", "backwards", "cut off", "compressed"],
)
def test_a_file_with_a_wrong_header_is_refused(data: bytes, words: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(StudioError, match=words) as caught:
        read_header(tmp_path / "model.safetensors")
    assert caught.value.kind == kind


def test_weights_that_are_not_there_are_told_apart_from_an_index_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StudioError, match="has no weights") as caught:
        WeightsFolder(tmp_path)
    assert caught.value.kind == "model_not_found"
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(StudioError, match="does not say where tensors lie"):
        WeightsFolder(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "gone.safetensors"}}))
    with pytest.raises(StudioError, match=r"gone\.safetensors is missing"):
        WeightsFolder(tmp_path)


def test_a_file_that_is_cut_off_while_it_is_read_is_told(tmp_path: Path) -> None:
    save_file({"a": torch.ones(64, 64), "none": torch.ones(0, 4)}, tmp_path / "model.safetensors")
    weights = WeightsFolder(tmp_path)
    assert weights.tensor("none").shape == (0, 4)
    assert weights.size == (tmp_path / "model.safetensors").stat().st_size
    (tmp_path / "model.safetensors").write_bytes(weights.files[0].header)
    with pytest.raises(StudioError, match="it ends within a"):
        weights.tensor("a")


def test_a_base_that_is_cut_off_while_it_is_copied_leaves_no_model(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama", shard="60KB")
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["q_proj"])
    shards = sorted(base.glob("*.safetensors"))

    def cut(done: int, total: int) -> None:
        for shard in shards[1:]:
            shard.write_bytes(shard.read_bytes()[:1000])

    with pytest.raises(StudioError):
        merge_adapter(base, adapter, tmp_path / "exports" / "out", progress=cut)
    assert list((tmp_path / "exports").iterdir()) == []


def test_a_base_is_rounded_before_the_adapter_is_merged_into_it(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["q_proj"])
    weight = LAYER.removeprefix("base_model.model.") + ".weight"

    def to_nothing(name: str, tensor: torch.Tensor) -> torch.Tensor | None:
        return torch.zeros_like(tensor) if name == weight else None

    merge_adapter(base, adapter, tmp_path / "out", rounding=to_nothing)
    low = load_file(adapter / "adapter_model.safetensors")
    update = low[f"{LAYER}.lora_B.weight"] @ low[f"{LAYER}.lora_A.weight"] * (6 / 4)
    found, stored = load_file(tmp_path / "out" / "model.safetensors"), load_file(base / "model.safetensors")
    torch.testing.assert_close(found[weight], update)
    assert torch.equal(found[EMBEDDING], stored[EMBEDDING])


def test_a_head_that_is_stored_under_a_name_of_its_own_is_not_tied(tmp_path: Path) -> None:
    base = raw(
        tmp_path / "base", {"embed_out.weight": torch.ones(4, 4)}, {"model_type": "gpt_neox"}, "model.safetensors"
    )
    assert not MergedWeights(base, None).is_tied


def _tied_base_with_a_stored_head(folder: Path) -> Path:
    base = make_base(folder, "llama_tied")
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = tensors[EMBEDDING].clone()
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    return base


def test_trained_tokens_reach_a_tied_head_that_is_stored_beside_its_embedding(tmp_path: Path) -> None:
    base = _tied_base_with_a_stored_head(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["q_proj"], trainable_token_indices=[1, 5])
    merge_adapter(base, adapter, tmp_path / "out")
    found, stored = load_file(tmp_path / "out" / "model.safetensors"), load_file(base / "model.safetensors")
    assert torch.equal(found["lm_head.weight"], found[EMBEDDING])
    changed = (found[EMBEDDING] != stored[EMBEDDING]).any(dim=1).nonzero().flatten().tolist()
    assert changed == [1, 5]


def test_an_update_of_the_embedding_alone_unties_it_from_the_stored_head(tmp_path: Path) -> None:
    base = _tied_base_with_a_stored_head(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["embed_tokens", "q_proj"])
    merge_adapter(base, adapter, tmp_path / "out")
    found, stored = load_file(tmp_path / "out" / "model.safetensors"), load_file(base / "model.safetensors")
    assert not torch.equal(found[EMBEDDING], stored[EMBEDDING])
    assert torch.equal(found["lm_head.weight"], stored["lm_head.weight"])
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False


def test_tokens_trained_at_a_tied_head_change_its_embedding(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama_tied")
    made = make_adapter(tmp_path / "adapter", base, target_modules=["q_proj"], trainable_token_indices=[1, 5])

    def to_the_head(tensors: Tensors) -> None:
        for name in [name for name in tensors if "embed_tokens" in name]:
            tensors[name.replace("model.embed_tokens", "lm_head")] = tensors.pop(name)

    merge_adapter(base, edit(made, to_the_head, trainable_token_indices={"lm_head": [1, 5]}), tmp_path / "out")
    found, stored = load_file(tmp_path / "out" / "model.safetensors"), load_file(base / "model.safetensors")
    assert "lm_head.weight" not in found
    changed = (found[EMBEDDING] != stored[EMBEDDING]).any(dim=1).nonzero().flatten().tolist()
    assert changed == [1, 5]


def test_a_tensor_without_numbers_is_kept(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    tensors = {**load_file(base / "model.safetensors"), "model.nothing": torch.ones(0, 4)}
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    merge_adapter(base, make_adapter(tmp_path / "adapter", base, target_modules=["q_proj"]), tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors")["model.nothing"].shape == (0, 4)
