"""The streaming merge beside peft's own, tensor by tensor, over families and kinds of adapters."""

import json
import math
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.context import JobStopped
from qlora_studio.engine.merge.safetensors_file import read_header
from qlora_studio.engine.merge.writer import merge_adapter
from tests.engine.families import FAMILIES, live, load, logits, make_adapter, make_base

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def peft_merge(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    merged = PeftModel.from_pretrained(load(base), adapter).merge_and_unload()
    tensors: dict[str, torch.Tensor] = merged.state_dict()
    return tensors


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def assert_equal_to_peft(base: Path, adapter: Path, out: Path, tolerance: float = 0.0) -> None:
    expected, found = peft_merge(base, adapter), tensors_of(out)
    changed = {name for name, tensor in tensors_of(base).items() if not torch.equal(tensor, found[name])}
    assert changed
    assert set(found) <= set(expected)
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype, name
        torch.testing.assert_close(
            tensor, expected[name], rtol=tolerance, atol=tolerance, msg=partial("{}: {}".format, name)
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_merge_equals_pefts_bit_for_bit_and_reloads_to_the_live_adapter(
    tmp_path: Path, family: str, dtype: torch.dtype
) -> None:
    base = make_base(tmp_path / "base", family, dtype=dtype)
    adapter = make_adapter(tmp_path / "adapter", base)
    report = merge_adapter(base, adapter, tmp_path / "out")
    assert_equal_to_peft(base, adapter, tmp_path / "out")
    assert report.tensors_merged > 0
    gap = (logits(load(tmp_path / "out")) - logits(live(base, adapter))).abs().max().item()
    assert gap < (1e-4 if dtype == torch.float32 else 0.1)


ADAPTERS: dict[str, dict[str, Any]] = {
    "rslora": {"use_rslora": True, "r": 8, "lora_alpha": 16},
    "dora": {"use_dora": True},
    "rank and alpha patterns": {
        "rank_pattern": {"q_proj": 2, "layers.1.self_attn.v_proj": 7, r"^model.layers.0.mlp.(up|down)_proj": 3},
        "alpha_pattern": {"k_proj": 5, r".*layers\.0.*": 9},
    },
    "few targets": {"target_modules": ["q_proj", "down_proj"]},
    "one layer": {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    "a regex": {"target_modules": r".*\.1\.self_attn\.(q|v)_proj"},
    "modules to save": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens", "norm"]},
    "embedding and head": {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
    "dora on the embedding": {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True},
    "trained tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [1, 5, 300]},
    "biases": {"target_modules": ["q_proj"], "bias": "all"},
    "lora bias": {"target_modules": ["q_proj"], "lora_bias": True},
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_every_kind_of_adapter_merges_as_peft_merges_it(tmp_path: Path, kind: str) -> None:
    base = make_base(tmp_path / "base", "llama", attention_bias=True)
    adapter = make_adapter(tmp_path / "adapter", base, **ADAPTERS[kind])
    merge_adapter(base, adapter, tmp_path / "out")
    assert_equal_to_peft(base, adapter, tmp_path / "out")


def test_dora_over_transposed_weights_merges_as_peft_merges_it(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "gpt2")
    adapter = make_adapter(tmp_path / "adapter", base, use_dora=True, target_modules=["c_attn", "c_proj", "c_fc"])
    merge_adapter(base, adapter, tmp_path / "out")
    assert_equal_to_peft(base, adapter, tmp_path / "out")


def test_a_single_shard_that_is_named_as_one_of_several_is_found_by_an_index(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama", shard="100KB")
    tensors, (first, *others) = tensors_of(base), sorted(base.glob("*.safetensors"))
    for path in others:
        path.unlink()
    save_file(tensors, first, metadata={"format": "pt"})
    index = base / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(tensors, first.name)}))
    adapter = make_adapter(tmp_path / "adapter", base)
    merge_adapter(base, adapter, tmp_path / "out")
    assert (logits(load(tmp_path / "out")) - logits(live(base, adapter))).abs().max() < 1e-4


def test_a_model_of_several_shards_keeps_their_names_and_its_index(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama", shard="100KB")
    adapter = make_adapter(tmp_path / "adapter", base)
    merge_adapter(base, adapter, tmp_path / "out")
    names = {path.name for path in base.glob("*.safetensors")}
    assert len(names) > 2
    assert {path.name for path in (tmp_path / "out").glob("*.safetensors")} == names
    index = "model.safetensors.index.json"
    weight_map = json.loads((base / index).read_text())["weight_map"]
    assert json.loads((tmp_path / "out" / index).read_text())["weight_map"] == weight_map
    assert_equal_to_peft(base, adapter, tmp_path / "out")


def test_headers_are_the_bases_own_bytes(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "qwen2")
    merge_adapter(base, make_adapter(tmp_path / "adapter", base), tmp_path / "out")
    name = "model.safetensors"
    assert read_header(tmp_path / "out" / name).header == read_header(base / name).header


def test_rows_in_small_blocks_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_base(tmp_path / "base", "llama", dtype=torch.bfloat16)
    adapter = make_adapter(tmp_path / "adapter", base, use_dora=True)
    merge_adapter(base, adapter, tmp_path / "whole")
    monkeypatch.setattr("qlora_studio.engine.merge.weights._BLOCK", 4096)
    merge_adapter(base, adapter, tmp_path / "blocks")
    whole, blocks = tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "blocks")
    assert all(torch.equal(whole[name], blocks[name]) for name in whole)


@pytest.mark.parametrize(
    "lora",
    [
        {"target_modules": ["lm_head", "q_proj"]},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [4, 9]},
        {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ],
    ids=["lora head", "lora embedding", "saved head", "saved embedding", "tokens", "tied lora", "tied saved"],
)
@pytest.mark.parametrize("shard", ["5GB", "60KB"])
def test_with_tied_embeddings_the_merged_model_computes_what_the_live_adapter_computes(
    tmp_path: Path, lora: dict[str, Any], shard: str
) -> None:
    base = make_base(tmp_path / "base", "llama_tied", shard=shard)
    adapter = make_adapter(tmp_path / "adapter", base, **lora)
    merge_adapter(base, adapter, tmp_path / "out")
    torch.testing.assert_close(logits(load(tmp_path / "out")), logits(live(base, adapter)), rtol=1e-4, atol=1e-4)
    tied = lora.get("ensure_weight_tying") or "trainable_token_indices" in lora
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] == bool(tied)
    assert ("lm_head.weight" in tensors_of(tmp_path / "out")) != bool(tied)


def test_a_resized_vocabulary_is_merged_with_its_new_size(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(
        tmp_path / "adapter", base, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]
    )
    weights = load_file(adapter / "adapter_model.safetensors")
    torch.manual_seed(1)
    for name in [name for name in weights if "embed_tokens" in name or "lm_head" in name]:
        weights[name] = torch.cat([weights[name], torch.randn(8, 64)])
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    merge_adapter(base, adapter, tmp_path / "out")
    merged = load(tmp_path / "out")
    assert merged.config.vocab_size == 328
    assert torch.equal(merged.lm_head.weight[-8:], weights["base_model.model.lm_head.weight"][-8:])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_dtype_is_rounded_once_from_fp32(tmp_path: Path, dtype: torch.dtype) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    merge_adapter(base, adapter, tmp_path / "out", dtype=dtype)
    expected, found = peft_merge(base, adapter), tensors_of(tmp_path / "out")
    assert all(torch.equal(found[name], expected[name].to(dtype)) for name in found)
    assert load(tmp_path / "out").dtype == dtype


def test_numbers_that_do_not_fit_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    for bad in (math.nan, math.inf):

        def spoil(model: Any, bad: float = bad) -> None:
            next(p for n, p in model.named_parameters() if "lora_B" in n).data[0, 0] = bad

        adapter = make_adapter(tmp_path / f"adapter-{bad}", base, edit=spoil)
        with pytest.raises(StudioError, match="not finite") as caught:
            merge_adapter(base, adapter, tmp_path / "exports" / "out")
        assert caught.value.kind == "damaged"
        assert list((tmp_path / "exports").iterdir()) == []


def test_infinite_limits_of_the_base_are_kept_in_another_dtype(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    weights = load_file(base / "model.safetensors") | {"audio.input_max": torch.tensor(float("inf"))}
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    merge_adapter(base, make_adapter(tmp_path / "adapter", base), tmp_path / "out", dtype=torch.bfloat16)
    assert tensors_of(tmp_path / "out")["audio.input_max"] == torch.inf


def test_a_stopped_merge_leaves_nothing(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    calls = iter([False, False, True])
    with pytest.raises(JobStopped):
        merge_adapter(base, adapter, tmp_path / "exports" / "out", cancelled=lambda: next(calls))
    assert list((tmp_path / "exports").iterdir()) == []


def test_progress_counts_the_bytes_up_to_the_whole(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    seen: list[tuple[int, int]] = []
    report = merge_adapter(
        base, make_adapter(tmp_path / "adapter", base), tmp_path / "out", progress=lambda *x: seen.append(x)
    )
    assert seen[-1] == (report.bytes, report.bytes)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_base_with_other_layers_is_refused(tmp_path: Path, layers: int) -> None:
    base = make_base(tmp_path / "base", "llama")
    other = make_base(tmp_path / "other", "llama", num_hidden_layers=layers)
    adapter = make_adapter(tmp_path / "adapter", base)
    with pytest.raises(StudioError) as caught:
        merge_adapter(other, adapter, tmp_path / "out")
    assert caught.value.kind == "fingerprint_mismatch"
    assert not (tmp_path / "out").exists()


def test_a_base_of_another_width_is_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    other = make_base(tmp_path / "other", "llama", hidden_size=96)
    with pytest.raises(StudioError, match="not trained on this base"):
        merge_adapter(other, make_adapter(tmp_path / "adapter", base), tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "value"),
    [("peft_type", "IA3"), ("use_qalora", True), ("init_lora_weights", "pissa"), ("layer_replication", [[0, 2]])],
)
def test_adapters_that_are_no_plain_update_are_refused_in_words(tmp_path: Path, key: str, value: Any) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(StudioError, match="cannot be merged") as caught:
        merge_adapter(base, adapter, tmp_path / "out")
    assert caught.value.kind == "model_refused"


@pytest.mark.parametrize("name", ["self_attn.q_proj.bias", "input_layernorm.weight", "mlp.up_proj.weight"])
def test_a_tensor_of_another_length_than_the_bases_is_refused_by_name(tmp_path: Path, name: str) -> None:
    base = make_base(tmp_path / "base", "llama", attention_bias=True)
    kept = ["q_proj", "input_layernorm", "up_proj"]
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["v_proj"], modules_to_save=kept)
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    key = f"base_model.model.model.layers.1.{name}"
    save_file(weights | {key: weights[key][:-1].contiguous()}, file, metadata={"format": "pt"})
    with pytest.raises(StudioError, match=rf"layers.1.{name} is \(.*in the base and \(.*in the adapter"):
        merge_adapter(base, adapter, tmp_path / "out")


def test_a_cut_off_shard_is_told_apart(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StudioError, match="is damaged: it should have"):
        merge_adapter(base, adapter, tmp_path / "out")


def test_a_quantized_base_is_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"load_in_4bit": True}}))
    with pytest.raises(StudioError, match="quantized"):
        merge_adapter(base, adapter, tmp_path / "out")


_ASKS = """
import subprocess, sys
parent = b"x" * (900 << 20)
program = "from qlora_studio.engine.merge.writer import peak_rss; print(peak_rss())"
print(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout, len(parent))
"""


def test_a_peak_of_memory_is_a_processs_own_and_not_that_of_who_started_it(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    peak, parent = map(int, run_python(_ASKS).stdout.split())
    assert 50 << 20 < peak < parent


_MERGES = """
import sys
from pathlib import Path
from qlora_studio.engine.merge.writer import merge_adapter, peak_rss
merge_adapter(*map(Path, sys.argv[1:]))
print(peak_rss())
"""


def test_the_memory_of_a_merge_does_not_grow_with_the_adapter(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    shape: dict[str, Any] = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 12}
    base = make_base(tmp_path / "base", "llama", dtype=torch.bfloat16, **shape)
    peaks, sizes = [], []
    for rank in (4, 256):
        adapter = make_adapter(tmp_path / f"rank-{rank}", base, r=rank)
        sizes.append((adapter / "adapter_model.safetensors").stat().st_size)
        done = run_python(_MERGES, str(base), str(adapter), str(tmp_path / f"out-{rank}"))
        peaks.append(int(done.stdout.split()[-1]))
    assert sizes[1] - sizes[0] > 80 << 20
    assert peaks[1] - peaks[0] < 40 << 20
