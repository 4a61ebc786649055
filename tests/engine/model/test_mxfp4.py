"""gpt-oss as it is published, its experts in MXFP4: written out in 16 bits, once, as transformers would unpack it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GptOssConfig
from transformers.utils.quantization_config import Mxfp4Config

from qlora_studio.engine.model.base import base_folder
from qlora_studio.engine.model.mxfp4 import unpacked_bytes
from qlora_studio.storage.models.quantized_base import refuse_known_quantized, refuse_quantized
from tests.engine.families import make_tokenizer

HIDDEN, INNER, EXPERTS = 64, 96, 4


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QLORA_STUDIO_HOME", str(tmp_path / "own"))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A tiny gpt-oss in two shards, with the scales of one stack of experts in another shard than its codes."""
    torch.manual_seed(3)
    folder = tmp_path / "gpt-oss-tiny"
    sizes: dict[str, Any] = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_local_experts": EXPERTS}
    config = GptOssConfig(**sizes, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16)
    config.vocab_size, config.pad_token_id = 320, 2
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        _, inputs, outputs = tensors.pop(name).shape
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (EXPERTS, outputs, inputs // 32, 16), dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(110, 130, (EXPERTS, outputs, inputs // 32), dtype=torch.uint8)
    folder.mkdir()
    second = {
        name: tensors.pop(name) for name in list(tensors) if ".layers.1." in name or name.endswith("up_proj_scales")
    }
    shards = {"model-00001-of-00002.safetensors": tensors, "model-00002-of-00002.safetensors": second}
    for name, part in shards.items():
        save_file(part, folder / name, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: name for name, part in shards.items() for key in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.quantization_config = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    config.architectures = ["GptOssForCausalLM"]
    config.save_pretrained(folder)
    return make_tokenizer(folder)


def test_its_weights_are_those_that_transformers_unpacks(published: Path) -> None:
    folder = base_folder(str(published))
    theirs = AutoModelForCausalLM.from_pretrained(
        published, quantization_config=Mxfp4Config(dequantize=True), dtype=torch.bfloat16
    ).state_dict()
    ours = {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert sum(value.nbytes for value in ours.values()) == unpacked_bytes(published)


def test_it_is_a_whole_model_with_its_tokenizer_and_made_once(published: Path) -> None:
    folder = base_folder(str(published))
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert (folder / "tokenizer.json").read_bytes() == (published / "tokenizer.json").read_bytes()
    ids = torch.arange(3, 40).reshape(1, -1)
    logits = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits
    assert torch.isfinite(logits).all()
    made = (folder / "manifest.json").stat().st_mtime_ns
    assert (base_folder(str(published)) / "manifest.json").stat().st_mtime_ns == made


def test_it_is_not_refused(published: Path) -> None:
    refuse_quantized(published, "openai/gpt-oss-20b")
    refuse_known_quantized("openai/gpt-oss-20b")
