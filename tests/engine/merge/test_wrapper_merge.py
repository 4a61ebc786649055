"""Language models inside models that also see pictures: what is adapted, merged, and known before training."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.errors import StudioError
from qlora_studio.engine.memory.architecture import config_of, meta_model
from qlora_studio.engine.merge.nf4_round_trip import quantized_weights
from qlora_studio.engine.merge.safetensors_file import WeightsFolder
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.merge.writer import merge_adapter
from qlora_studio.engine.model.adapted import attach_adapters, load_base
from qlora_studio.engine.model.device import Device
from qlora_studio.engine.model.loading import load_merged
from qlora_studio.engine.model.rehearsal import merge_rehearsal
from qlora_studio.engine.model.targets import targets_of
from tests.engine.families import WRAPPERS, live, load, logits, make_adapter, make_base

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
_TEXT_ALONE = r".*(language_model|model)\.layers\..*(?:q_proj|in_proj_qkv|o_proj|out_proj|down_proj)"


def divergence(one: torch.Tensor, other: torch.Tensor) -> float:
    wanted, found = (torch.log_softmax(item, dim=-1) for item in (one, other))
    return float((wanted.exp() * (wanted - found)).sum(dim=-1).mean())


_OFTEN = ("gemma3_wrapper", "gemma4_wrapper", "qwen3_5_wrapper", "mistral3_wrapper")
EACH = [name if name in _OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in WRAPPERS]


@pytest.fixture(params=EACH)
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make_base(tmp_path / "base", request.param)


def test_a_wrapper_merges_into_a_wrapper_that_answers_as_the_live_adapter(base: Path, tmp_path: Path) -> None:
    (base / "preprocessor_config.json").write_text('{"size": 28}')
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=_TEXT_ALONE)
    merge_adapter(base, adapter, tmp_path / "merged")
    expected, merged = logits(live(base, adapter)), logits(load(tmp_path / "merged"))
    assert divergence(expected, merged) <= 1e-5 < divergence(logits(load(base)), merged)
    assert (tmp_path / "merged" / "preprocessor_config.json").read_text() == '{"size": 28}'
    assert set(load_file(tmp_path / "merged" / "model.safetensors")) == set(load_file(base / "model.safetensors"))


def test_what_is_merged_in_memory_answers_as_what_is_merged_in_files(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=_TEXT_ALONE)
    merged = load_merged(MergedWeights(base, adapter), dtype=torch.float32, device="cpu")
    assert divergence(logits(live(base, adapter)), logits(merged)) <= 1e-5


def test_weights_that_training_quantizes_are_named_as_in_the_files(base: Path) -> None:
    names = quantized_weights(meta_model(config_of(base)), WeightsFolder(base).places)
    assert names <= set(load_file(base / "model.safetensors"))
    assert any("layers.0.mlp.up_proj" in name for name in names)


def test_auto_reaches_every_linear_layer_of_the_text_and_no_other(base: Path) -> None:
    model = meta_model(config_of(base))
    decoder = {id(module) for module in model.get_decoder().modules()}
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    modules = dict(model.named_modules())
    expected = {name for name in linear if id(modules[name]) in decoder}
    targets = targets_of(model, "auto")
    if targets == "all-linear":  # the text part alone is in memory
        assert expected - {"lm_head"} == linear - {"lm_head"}
    else:
        assert {name for name in linear if re.fullmatch(str(targets), name)} == expected


def test_keys_of_layers_that_share_them_are_no_layers_without_adapters(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "gemma4_wrapper")
    layer = "model.language_model.layers.{}.self_attn.k_proj"
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=[layer.format(n) for n in range(2)])
    weights = load_file(base / "model.safetensors")
    weights |= {f"{layer.format(n)}.weight": weights[f"{layer.format(n - 2)}.weight"].clone() for n in (2, 3)}
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    merge_adapter(base, adapter, tmp_path / "merged")
    assert divergence(logits(live(base, adapter)), logits(load(tmp_path / "merged"))) <= 1e-5


def test_training_loads_nothing_that_a_text_never_comes_through(base: Path) -> None:
    config, device = config_for(base), Device("cpu", torch.float32, "adamw_torch", True)
    found = load_base(base, config.with_value("quantization.method", "none"), device).eval()
    assert torch.equal(logits(found), logits(load(base)))
    quantized = attach_adapters(load_base(base, config, device), config)
    names = {name for name, _ in quantized.named_parameters()}
    assert not [name for name in names if re.search(r"vision|visual|audio|projector|connector", name)]
    assert any("layers.0.mlp.up_proj.lora_A" in name for name in names)


def test_what_is_adapted_beside_the_text_is_loaded(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "gemma3_wrapper")
    device = Device("cpu", torch.float32, "adamw_torch", True)
    named = config_for(base).with_value("lora.target_modules", "q_proj, fc1")
    for config, adapter in ((named, None), (config_for(base), make_adapter(tmp_path / "adapter", base))):
        assert load_base(base, config, device, adapter).model.vision_tower is not None


def reached(model: Any, wish: str) -> set[str]:
    return {name for name, _ in model.named_modules() if re.fullmatch(str(targets_of(model, wish)), name)}


def test_a_name_that_text_and_pictures_share_is_the_texts_and_one_of_the_pictures_is_theirs(tmp_path: Path) -> None:
    model = meta_model(config_of(make_base(tmp_path / "base", "gemma3_wrapper")))
    assert reached(model, "q_proj") == {f"model.language_model.layers.{n}.self_attn.q_proj" for n in range(2)}
    assert reached(model, "fc1") == {f"model.vision_tower.{place}.mlp.fc1" for place in ("encoder.layers.0", "head")}


def test_a_rehearsal_says_before_training_that_what_comes_out_can_be_merged(base: Path) -> None:
    merge_rehearsal(base, config_for(base))


def test_a_rehearsal_names_what_the_base_does_not_have(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "gemma3_wrapper")
    weights = load_file(base / "model.safetensors")
    weights["elsewhere.weight"] = weights.pop("language_model.model.layers.1.mlp.up_proj.weight")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StudioError, match=r"language_model.layers.1.mlp.up_proj.weight, which this base does not have"):
        merge_rehearsal(base, config_for(base))


def config_for(base: Path) -> Any:
    return from_mapping({"model": {"source": str(base)}, "data": {"path": str(base / "rows.jsonl")}}, [])
