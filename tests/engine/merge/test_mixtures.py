"""Adapters of mixtures of experts, merged into files whose names are not those in memory."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from qlora_studio.core.config.run_config import QuantizationSection, RunConfig
from qlora_studio.engine.merge.nf4_round_trip import Nf4RoundTrip
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.merge.writer import merge_adapter
from qlora_studio.engine.model.adapted import attach_adapters, load_base
from qlora_studio.engine.model.device import Device
from tests.engine.families import divergence, live, load, logits
from tests.engine.mixtures import EACH, make_mixture

_DEVICE = Device("cpu", torch.float32, "adamw_torch", True)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def _adapter(folder: Path, base: Path) -> Path:
    """Save an adapter as a run would attach it, with random weights."""
    torch.manual_seed(11)
    model = attach_adapters(load(base), RunConfig())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(str(folder))
    return folder


def _log_probabilities(model: torch.nn.Module) -> torch.Tensor:
    return logits(model)[0].log_softmax(-1)


@pytest.mark.parametrize("family", EACH)
def test_a_merged_mixture_computes_what_its_adapter_does(family: str, tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", family)
    adapter = _adapter(tmp_path / "adapter", base)
    merge_adapter(base, adapter, tmp_path / "out")
    expected = _log_probabilities(live(base, adapter))
    assert divergence(expected, _log_probabilities(load(tmp_path / "out"))) < 1e-5
    assert divergence(expected, _log_probabilities(load(base))) > 1e-3


@pytest.mark.parametrize("family", EACH)
def test_the_4_bit_weights_of_a_mixture_are_those_of_training(family: str, tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", family)
    rounded = MergedWeights(base, None, rounding=Nf4RoundTrip(base, QuantizationSection()))
    save_file(
        {name: rounded.tensor(name) for name in rounded.tensors}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    shutil.copyfile(base / "config.json", tmp_path / "config.json")
    model = load(tmp_path)
    trained = load_base(base, RunConfig(), _DEVICE).eval()
    assert torch.allclose(logits(model), logits(trained), atol=1e-5)
    assert not torch.allclose(logits(model), logits(load(base)), atol=1e-3)
