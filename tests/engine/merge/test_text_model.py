"""The language model of one that also sees or hears, exported alone: by its own class, names and config."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.errors import StudioError
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.merge.text_model import text_alone
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.merge.writer import write_merged
from qlora_studio.engine.model.rehearsal import require_mergeable
from qlora_studio.storage.durable import Manifest, staged_folder
from tests.engine.families import WRAPPERS, live, load, logits, make_adapter, make_base

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
_TEXT_LAYERS = r".*(language_model|text_model|model)\.layers\..*(?:q_proj|in_proj_qkv|o_proj|out_proj|down_proj)"
_WITHOUT_A_CLASS = {"qwen2_vl_wrapper", "qwen2_5_vl_wrapper", "qwen3_vl_wrapper", "mllama_wrapper"}
_OFTEN = ("gemma3_wrapper", "gemma4_wrapper", "qwen3_5_wrapper", "mistral3_wrapper")
EACH = [
    name if name in _OFTEN else pytest.param(name, marks=pytest.mark.slow)
    for name in WRAPPERS
    if name not in _WITHOUT_A_CLASS
]


def divergence(one: torch.Tensor, other: torch.Tensor) -> float:
    wanted, found = (torch.log_softmax(item, dim=-1) for item in (one, other))
    return float((wanted.exp() * (wanted - found)).sum(dim=-1).mean())


def written(weights: MergedWeights, folder: Path) -> Path:
    with staged_folder(folder) as staged:
        write_merged(weights, staged)
        staged.manifest = Manifest()
    return folder


def own_names(folder: Path, place: Path) -> set[str]:
    """Return what the files of a text model's class hold, as transformers writes them."""
    config = AutoConfig.from_pretrained(folder)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(place)
    return set(load_file(place / "model.safetensors"))


@pytest.mark.parametrize("family", EACH)
def test_the_text_model_alone_answers_as_the_live_adapter(family: str, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", family)
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=_TEXT_LAYERS)
    alone = written(text_alone(MergedWeights(base, adapter)), tmp_path / "alone")
    auto: Any = AutoModelForCausalLM
    model, found = auto.from_pretrained(alone, dtype=torch.float32, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert type(model).__name__ == json.loads((alone / "config.json").read_text())["architectures"][0]
    assert divergence(logits(live(base, adapter)), logits(model.eval())) <= 1e-5
    assert divergence(logits(load(base)), logits(model.eval())) > 1e-5
    assert set(load_file(alone / "model.safetensors")) == own_names(alone, tmp_path / "plain")


def test_files_of_which_nothing_remains_are_left_out_and_the_others_numbered_anew(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "gemma3_wrapper", shard="60KB")
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=_TEXT_LAYERS)
    alone = written(text_alone(MergedWeights(base, adapter)), tmp_path / "alone")
    index = json.loads((alone / "model.safetensors.index.json").read_text())["weight_map"]
    files = sorted(path.name for path in alone.glob("*.safetensors"))
    assert set(index.values()) == set(files)
    assert len(files) < len(list(base.glob("*.safetensors")))
    assert all(name.endswith(f"-of-{len(files):05d}.safetensors") for name in files)
    assert divergence(logits(live(base, adapter)), logits(load(alone))) <= 1e-5


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("llama", "LlamaForCausalLM is a language model and nothing else"),
        (
            "qwen2_5_vl_wrapper",
            r"inside Qwen2_5_VLForConditionalGeneration \(qwen2_5_vl_text\) has no class of its own",
        ),
        ("mllama_wrapper", r"inside MllamaForConditionalGeneration \(mllama_text_model\) has no class of its own"),
    ],
)
def test_what_has_no_text_model_of_its_own_is_refused_before_the_start(family: str, words: str, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", family)
    mapping = {"model": {"source": str(base)}, "data": {"path": "rows.jsonl"}, "export": {"formats": ["text_model"]}}
    with pytest.raises(StudioError, match=words):
        require_mergeable(base, from_mapping(mapping, []), QUIET)
    with pytest.raises(StudioError, match=words):
        text_alone(MergedWeights(base, None))
