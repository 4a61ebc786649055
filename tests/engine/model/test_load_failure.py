"""A model that cannot be loaded is refused with its own cause; nothing but a damaged file is called damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.faults import failure_of
from qlora_studio.engine.memory.load_failure import load_failure
from qlora_studio.engine.model.adapted import load_base
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.model.loading import load_plain

Edit = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "whole"
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 64}
    LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=4)).save_pretrained(folder)
    return folder


def config(**changes: Any) -> Edit:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (config(model_type="qwen9"), "does not know models of type qwen9"),
        (config(model_type="t5"), "models of type t5 are no language models that write text"),
        (config(num_attention_heads=5), "its config.json cannot be right. The hidden size (32) is not a multiple of"),
        (config(quantization_config={"quant_method": "gptq", "bits": 4}), "its weights are stored as GPTQ in 4 bits"),
        (config(quantization_config={"quant_method": "awq", "bits": 4}), "its weights are stored as AWQ in 4 bits"),
        (config(quantization_config={"quant_method": "hqq"}), "its weights are stored as HQQ"),
        (cut_short, "model.safetensors"),
        (without_weights, "has no weights"),
    ],
    ids=["unknown", "not causal", "heads", "gptq", "awq", "hqq", "cut", "no weights"],
)
def test_a_failed_load_says_its_own_cause(whole: Path, tmp_path: Path, edit: Edit, words: str) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(whole, folder)
    edit(folder)
    run = RunConfig()
    with pytest.raises(StudioError) as raised:
        load_base(folder, run, choose_device(run, QUIET))
    error = raised.value
    assert error.kind in (FailureKind.MODEL_REFUSED, FailureKind.MODEL_NOT_FOUND)
    assert words in error.message
    assert "\n" not in error.message
    is_damaged = edit in (cut_short, without_weights)
    assert is_damaged or "again" not in error.advice + error.message


def test_weights_of_other_sizes_than_the_config_says_are_told(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(whole, folder)
    config(intermediate_size=128)(folder)
    run = RunConfig().with_value("quantization.method", "none")
    with pytest.raises(StudioError, match="its weights have other sizes than"):
        load_base(folder, run, choose_device(run, QUIET))


@pytest.mark.parametrize(("name", "size"), [("mlp.up_proj", (64, 32)), ("self_attn.q_proj", (32, 32))])
def test_weights_to_be_quantized_of_other_sizes_are_named(whole: Path, tmp_path: Path, name: str, size: Any) -> None:
    full = f"model.layers.0.{name}.weight"
    folder = changed_weights(whole, tmp_path, lambda weights: weights | {full: weights[full][:-8].contiguous()})
    with pytest.raises(StudioError) as raised:
        load_base(folder, RunConfig(), choose_device(RunConfig(), QUIET))
    assert f"{full} is ({size[0] - 8}, {size[1]}) in its files, and {size} by its config.json" in raised.value.message


@pytest.mark.parametrize("method", ["nf4", "none"])
@pytest.mark.parametrize("name", ["model.layers.0.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"])
def test_a_tensor_that_no_file_holds_is_named(whole: Path, tmp_path: Path, name: str, method: str) -> None:
    folder = changed_weights(whole, tmp_path, lambda weights: {key: weights[key] for key in weights if key != name})
    run = RunConfig().with_value("quantization.method", method)
    with pytest.raises(StudioError) as raised:
        load_base(folder, run, choose_device(run, QUIET))
    assert f"none of its files (model.safetensors) holds {name}" in raised.value.message
    with pytest.raises(StudioError, match="none of its files"):
        load_plain(folder, dtype=torch.float32, device="cpu")


def test_a_head_that_is_its_embedding_is_not_missing(whole: Path, tmp_path: Path) -> None:
    folder = changed_weights(
        whole, tmp_path, lambda weights: {key: weights[key] for key in weights if "head" not in key}
    )
    config(tie_word_embeddings=True)(folder)
    load_base(folder, RunConfig(), choose_device(RunConfig(), QUIET))


def changed_weights(whole: Path, place: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    folder = place / "changed"
    shutil.copytree(whole, folder)
    save_file(edit(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_missing_package_is_named(whole: Path) -> None:
    error = load_failure(whole, ImportError("This model needs the package `mamba_ssm`. Install it."))
    assert "a package is missing. This model needs the package `mamba_ssm`." in error.message


def test_a_card_without_memory_is_no_fault_of_the_model(whole: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        load_failure(whole, torch.OutOfMemoryError("CUDA out of memory"))


def test_a_card_that_runs_out_of_memory_while_weights_are_put_in_place_is_told_as_that(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers goes on, and in the end says that there were some issues."""

    def full(*_arguments: Any, **_settings: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr("bitsandbytes.functional.quantize_4bit", full)
    with pytest.raises(RuntimeError) as raised:
        load_base(whole, RunConfig(), choose_device(RunConfig(), QUIET))
    assert failure_of(raised.value, "train").kind == FailureKind.OUT_OF_MEMORY
