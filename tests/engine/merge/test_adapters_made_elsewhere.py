"""Adapters as other tools leave them: merged with peft's own numbers, or refused by name."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPTNeoXConfig

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.merge.writer import merge_adapter
from qlora_studio.engine.model.loading import load_with_adapter
from tests.engine.families import live, load, logits, make_adapter, make_base

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
RESIZED = 325


def resized_adapter(tmp_path: Path, family: str, **lora: Any) -> tuple[Path, Path, Any]:
    """Return a base, an adapter trained after the vocabulary grew, and the model that the adapter belongs to."""
    base = make_base(tmp_path / "base", family)
    settings: dict[str, Any] = {"target_modules": ["q_proj"], "init_lora_weights": False, **lora}
    torch.manual_seed(3)
    model: Any = load(base)
    model.resize_token_embeddings(RESIZED, mean_resizing=False)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(str(tmp_path / "adapter"))
    return base, tmp_path / "adapter", model


def rename(adapter: Path, change: Callable[[str], str]) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file({change(name): tensor for name, tensor in load_file(path).items()}, path)


def set_config(adapter: Path, **values: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def merged_by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model: Any = PeftModel.from_pretrained(load(base), adapter)
    state: dict[str, torch.Tensor] = model.merge_and_unload().state_dict()
    return state


def assert_merged(folder: Path, expected: dict[str, torch.Tensor]) -> None:
    found = load(folder).state_dict()
    assert set(found) == set(expected)
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


RESIZED_KINDS: dict[str, dict[str, Any]] = {
    "embedding and head retrained": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "embedding alone retrained": {"modules_to_save": ["embed_tokens"]},
    "head alone retrained": {"modules_to_save": ["lm_head"]},
    "embedding and head retrained as one": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "only kept, since they grew": {},
    "single tokens": {"trainable_token_indices": [1, 322]},
    "single tokens, by name": {"trainable_token_indices": {"embed_tokens": [1, 322]}},
    "low rank on embedding and head": {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
}


@pytest.mark.parametrize("kind", RESIZED_KINDS)
@pytest.mark.parametrize("family", ["llama", "llama_tied"])
def test_an_adapter_of_a_resized_vocabulary_merges_as_its_own_model(tmp_path: Path, family: str, kind: str) -> None:
    base, adapter, model = resized_adapter(tmp_path, family, **RESIZED_KINDS[kind])
    merge_adapter(base, adapter, tmp_path / "out")
    with torch.no_grad():
        wanted = model.eval()
        ids = torch.tensor([[1, 5, 320, 322, 324]])
        torch.testing.assert_close(
            load(tmp_path / "out")(input_ids=ids).logits, wanted(input_ids=ids).logits, rtol=1e-4, atol=1e-4
        )
    if family == "llama":  # a tied head that peft merges into is changed with its embedding; ours is not
        assert_merged(tmp_path / "out", model.merge_and_unload().state_dict())


@pytest.mark.parametrize("kind", RESIZED_KINDS)
def test_such_an_adapter_is_loaded_unmerged_with_the_vocabulary_that_it_brings(tmp_path: Path, kind: str) -> None:
    base, adapter, model = resized_adapter(tmp_path, "llama", **RESIZED_KINDS[kind])
    found = load_with_adapter(base, adapter, dtype=torch.float32, device="cpu")
    ids = torch.tensor([[1, 5, 320, 322, 324]])
    with torch.no_grad():
        torch.testing.assert_close(found(input_ids=ids).logits, model.eval()(input_ids=ids).logits)


NAMES: dict[str, Callable[[str], str]] = {
    "a raw state dict": lambda name: name.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default."),
    "torch.compile around all": lambda name: f"_orig_mod.{name}",
    "torch.compile inside peft": lambda name: name.replace("base_model.model.", "base_model.model._orig_mod."),
    "torch.compile of each layer": lambda name: name.replace(".self_attn.", "._orig_mod.self_attn."),
    "FSDP": lambda name: name.replace(".self_attn.", "._fsdp_wrapped_module.self_attn."),
    "checkpointing": lambda name: name.replace(".self_attn.", "._checkpoint_wrapped_module.self_attn."),
    "DDP": lambda name: f"module.{name}",
    "no prefix": lambda name: name.removeprefix("base_model.model."),
}
MERGED: dict[str, dict[str, Any]] = {
    "LoRA": {"target_modules": ["q_proj", "o_proj"]},
    "DoRA": {"target_modules": ["q_proj", "o_proj"], "use_dora": True},
}


@pytest.mark.parametrize(("kind", "names"), [*(("LoRA", names) for names in NAMES), ("DoRA", "a raw state dict")])
def test_names_that_wrappers_left_in_a_file_are_those_of_the_modules(tmp_path: Path, kind: str, names: str) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base, **MERGED[kind])
    expected = merged_by_peft(base, adapter)
    wanted = logits(live(base, adapter))
    rename(adapter, NAMES[names])
    merge_adapter(base, adapter, tmp_path / "out")
    assert_merged(tmp_path / "out", expected)
    found = logits(load_with_adapter(base, adapter, dtype=torch.float32, device="cpu"))
    assert torch.equal(found, wanted)


def test_two_adapters_in_one_file_are_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors |= {f"_orig_mod.{name}": tensor.clone() for name, tensor in tensors.items()}
    save_file(tensors, path)
    with pytest.raises(StudioError, match="twice"):
        merge_adapter(base, adapter, tmp_path / "out")


@pytest.mark.parametrize(("family", "stored"), [("llama", True), ("gpt2", False)])
def test_fan_in_fan_out_is_what_the_layers_are_and_not_what_the_file_says(
    tmp_path: Path, family: str, stored: bool
) -> None:
    base = make_base(tmp_path / "base", family)
    names = ["c_proj"] if family == "gpt2" else ["q_proj", "o_proj"]  # square ones
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=names)
    set_config(adapter, fan_in_fan_out=stored)
    merge_adapter(base, adapter, tmp_path / "out")
    assert_merged(tmp_path / "out", merged_by_peft(base, adapter))


@pytest.mark.parametrize(
    "lora",
    [
        {"target_modules": ["query_key_value"]},
        {"target_modules": ["embed_in"]},
        {"target_modules": ["query_key_value"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["query_key_value"], "trainable_token_indices": {"embed_in": [3, 5]}},
    ],
    ids=["layers", "embedding", "head retrained", "tokens"],
)
def test_a_tied_neox_merges_as_it_computes(tmp_path: Path, lora: dict[str, Any]) -> None:
    torch.manual_seed(7)
    config = GPTNeoXConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    adapter = make_adapter(tmp_path / "adapter", tmp_path / "base", **lora)
    merge_adapter(tmp_path / "base", adapter, tmp_path / "out")
    wanted = logits(live(tmp_path / "base", adapter), 96)
    torch.testing.assert_close(logits(load(tmp_path / "out"), 96), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "base_name", ["unsloth/llama-3-8b-bnb-4bit", "/home/somebody/models/base", None], ids=["Unsloth", "axolotl", "none"]
)
def test_the_base_is_the_one_that_the_user_names(tmp_path: Path, base_name: str | None) -> None:
    """Unsloth, axolotl and LLaMA-Factory write what they trained on: a 4-bit repository, a folder of that computer."""
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    expected = merged_by_peft(base, adapter)
    set_config(adapter, base_model_name_or_path=base_name, auto_mapping=None, revision="unsloth")
    merge_adapter(base, adapter, tmp_path / "out")
    assert_merged(tmp_path / "out", expected)


@pytest.mark.parametrize("has_bias", [True, False], ids=["with a bias", "without one"])
def test_a_bias_of_low_rank_merges_where_the_base_has_one(tmp_path: Path, has_bias: bool) -> None:
    base = make_base(tmp_path / "base", "llama", attention_bias=has_bias)
    adapter = make_adapter(tmp_path / "adapter", base, lora_bias=True, target_modules=["q_proj", "v_proj"])
    if not has_bias:
        with pytest.raises(StudioError, match="no bias") as caught:
            merge_adapter(base, adapter, tmp_path / "out")
        assert caught.value.kind == "model_refused"
        return
    merge_adapter(base, adapter, tmp_path / "out")
    assert_merged(tmp_path / "out", merged_by_peft(base, adapter))


@pytest.mark.parametrize("name", ["adapter_model.bin", "pytorch_model.bin"])
def test_a_pickle_is_called_a_pickle(tmp_path: Path, name: str) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    (adapter / "adapter_model.safetensors").rename(adapter / name)
    with pytest.raises(StudioError, match=f"{name} is a pickle") as caught:
        merge_adapter(base, adapter, tmp_path / "out")
    assert caught.value.kind == "model_refused"
    assert "safetensors" in caught.value.advice


EVERY_LINEAR = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


@pytest.mark.parametrize(
    "targets",
    [
        ["model.layers.0.self_attn.q_proj"],
        ["layers.0.self_attn.q_proj"],
        [f"model.layers.0.{name}" for name in EVERY_LINEAR],
    ],
    ids=["full", "shorter", "all of them"],
)
def test_modules_of_the_first_layer_alone_can_be_targets(tmp_path: Path, targets: list[str]) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=targets)
    merge_adapter(base, adapter, tmp_path / "out")
    assert_merged(tmp_path / "out", merged_by_peft(base, adapter))


SLOW = "(([a-z._0-9]+)+)+!"


def test_a_pattern_that_takes_for_ever_is_refused_in_seconds(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    set_config(adapter, alpha_pattern={r"(\w|\.|[a-z])*(?<!\w)": 4})
    began = time.monotonic()
    with pytest.raises(StudioError, match="for ever"):
        merge_adapter(base, adapter, tmp_path / "out")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules"])
def test_no_pattern_of_targets_is_ever_matched(tmp_path: Path, key: str) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(tmp_path / "adapter", base)
    expected, wanted = merged_by_peft(base, adapter), logits(live(base, adapter))
    set_config(adapter, **{key: SLOW}, rank_pattern={SLOW: 4}, layers_pattern=SLOW)
    merge_adapter(base, adapter, tmp_path / "out")
    assert_merged(tmp_path / "out", expected)
    found = logits(load_with_adapter(base, adapter, dtype=torch.float32, device="cpu"))
    assert torch.equal(found, wanted)


def test_a_scale_of_single_modules_is_peft_s(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "llama")
    adapter = make_adapter(
        tmp_path / "adapter",
        base,
        use_rslora=True,
        rank_pattern={"q_proj": 3},
        alpha_pattern={r"layers\.1\..*_proj": 5, "^model.layers.0.mlp.up_proj": 9},
    )
    merge_adapter(base, adapter, tmp_path / "out")
    assert_merged(tmp_path / "out", merged_by_peft(base, adapter))
    found = logits(load_with_adapter(base, adapter, dtype=torch.float32, device="cpu"))
    assert torch.equal(found, logits(live(base, adapter)))
