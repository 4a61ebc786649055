"""Stacked experts in 4 bit: as bitsandbytes itself quantizes them, one by one as they come, and trained through."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.parametrize import replace_parameter_4bit
from torch.nn.utils import parametrize

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.engine.experts import stacked_experts
from qlora_studio.engine.model.adapted import attach_adapters, facts_of, load_base
from qlora_studio.engine.model.device import Device
from qlora_studio.engine.model.targets import adapted_modules
from tests.engine.families import load
from tests.engine.mixtures import EACH, make_mixture

_DEVICE = Device("cpu", torch.float32, "adamw_torch", True)
_IDS = torch.arange(3, 27).reshape(1, -1)


def _of(parent: str, names: str) -> set[str]:
    return {f"{parent}.{name}" for name in names.split()}


_ATTENTION = _of("self_attn", "q_proj k_proj v_proj o_proj")
_MLP = "gate_proj up_proj down_proj"
_SHARED_EXPERT = _of("shared_expert", _MLP) | {"mlp.shared_expert_gate"}
_SHARED = _of("shared_experts", _MLP)
_LATENT = _of("self_attn", "q_a_proj q_b_proj kv_a_proj_with_mqa kv_b_proj o_proj")
_DELTA = _of("linear_attn", "in_proj_qkv in_proj_z in_proj_a in_proj_b out_proj")
_TARGETS = {  # attention, shared experts and dense layers; no routers
    "qwen2_moe": _ATTENTION | _SHARED_EXPERT,
    "deepseek_v2": _LATENT | _SHARED,
    "deepseek_v3": _LATENT | _SHARED | _of("mlp", _MLP),
    "dots1": _ATTENTION | _SHARED | _of("mlp", _MLP),
    "ernie4_5_moe": _ATTENTION | _SHARED | _of("mlp", _MLP),
    "glm4_moe": _ATTENTION | _SHARED | _of("mlp", _MLP),
    "granitemoehybrid": _ATTENTION | _of("shared_mlp", "input_linear output_linear") | _of("mamba", "in_proj out_proj"),
    "hunyuan_v1_moe": _ATTENTION | _of("shared_mlp", _MLP),
    "laguna": _ATTENTION | {"self_attn.g_proj"} | _SHARED | _of("mlp", _MLP),
    "lfm2_moe": _of("self_attn", "q_proj k_proj v_proj out_proj")
    | _of("conv", "in_proj out_proj")
    | _of("feed_forward", "w1 w2 w3"),
    "qwen3_5_moe_text": _ATTENTION | _DELTA | _SHARED_EXPERT,
    "qwen3_next": _ATTENTION | _of("linear_attn", "in_proj_qkvz in_proj_ba out_proj") | _SHARED_EXPERT,
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(params=EACH)
def family(request: pytest.FixtureRequest) -> str:
    """The name of a family."""
    return str(request.param)


def _loss(model: Any) -> torch.Tensor:
    loss: torch.Tensor = model(input_ids=_IDS, labels=_IDS, use_cache=False).loss
    return loss


def test_experts_are_quantized_as_bitsandbytes_quantizes_them(family: str, tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", family)
    plain, loaded = load(base), load_base(base, RunConfig(), _DEVICE).eval()
    found = stacked_experts(plain)
    assert found.keys() == stacked_experts(loaded).keys() != set()
    for path, (module, name) in found.items():
        original = getattr(module, name).detach().clone()
        replace_parameter_4bit(module, name, compress_statistics=True, quant_type="nf4", blocksize=64)
        value = loaded.get_parameter(path.replace(f".{name}", f".parametrizations.{name}.original"))
        assert value.nbytes == original.numel() // 2
        assert torch.equal(getattr(loaded.get_submodule(path.rpartition(".")[0]), name), getattr(module, name))
        assert not torch.equal(getattr(module, name), original)


def test_experts_of_another_size_than_the_config_says_are_named(tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", "qwen3_moe")
    config = json.loads((base / "config.json").read_text())
    config["moe_intermediate_size"] *= 2
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(StudioError, match=r"experts\.\w+ is \(.*\) in its files, and \(.*\) by its config.json"):
        load_base(base, RunConfig(), _DEVICE)


def test_adapters_on_dense_layers_learn_through_experts_in_4_bit(family: str, tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", family)
    model: Any = attach_adapters(load_base(base, RunConfig(), _DEVICE), RunConfig())
    found = {".".join(name.rsplit(".", 2)[-2:]) for name in adapted_modules(model)}
    assert found == _TARGETS.get(family, _ATTENTION)
    assert facts_of(model, RunConfig(), _DEVICE).parameters == sum(item.numel() for item in load(base).parameters())
    model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    model.eval()  # leaves out dropout, not the gradients; the loss of experts in 16 bit is near
    assert float(_loss(model)) == pytest.approx(float(_loss(load(base))), rel=0.02)
    model.train()
    optimizer = torch.optim.AdamW([item for item in model.parameters() if item.requires_grad], lr=1e-2)
    losses = []
    for _ in range(4):
        loss = _loss(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    assert not parametrize._cache, "unpacked experts stay in memory"


def test_checkpointing_changes_no_gradient_through_experts_in_4_bit(tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", "qwen3_moe")
    config = RunConfig().with_value("lora.dropout", 0.0)
    gradients: list[list[torch.Tensor]] = []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        model: Any = attach_adapters(load_base(base, config, _DEVICE), config)
        if checkpointing:
            model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
        model.train()
        _loss(model).backward()
        gradients.append([item.grad for item in model.parameters() if item.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert any(item.abs().max() > 0 for item in gradients[0])


@pytest.mark.parametrize("names", ["gate_proj", "q_proj,experts", "q_proj,down_proj", "gate"])
def test_experts_as_targets_are_refused_by_name(names: str, tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", "qwen3_moe")
    with pytest.raises(StudioError, match=names.rsplit(",", 1)[-1]):
        attach_adapters(load(base), RunConfig().with_value("lora.target_modules", names))


def test_a_name_that_experts_and_a_shared_expert_have_means_the_shared_one(tmp_path: Path) -> None:
    base = make_mixture(tmp_path / "base", "qwen2_moe")
    config = RunConfig().with_value("lora.target_modules", "q_proj,down_proj")
    model: Any = attach_adapters(load_base(base, config, _DEVICE), config)
    assert set(model.peft_config["default"].target_modules) == {"self_attn.q_proj", "shared_expert.down_proj"}


_LOADING = """
import sys, threading, time, re
from pathlib import Path
import torch
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.engine.model.adapted import load_base
from qlora_studio.engine.model.device import Device

def held():  # what is the process's own: the file that is mapped can be dropped any time
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

def load(folder):
    return load_base(Path(folder), RunConfig(), Device("cpu", torch.bfloat16, "adamw_torch", True))

load(sys.argv[1])  # what libraries take is there now
peak = before = held()
done = False
def watch():
    global peak
    while not done:
        peak = max(peak, held())
        time.sleep(0.002)
watcher = threading.Thread(target=watch)
watcher.start()
model = load(sys.argv[2])
done = True
watcher.join()
print(peak - before)
"""


@pytest.mark.slow
def test_a_mixture_never_stands_in_16_bit_while_it_is_loaded(
    tmp_path: Path, run_python: Callable[..., "subprocess.CompletedProcess[str]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # what is freed is given back, not kept in holes
    sizes = {"hidden_size": 256, "moe_intermediate_size": 128, "num_experts": 8, "num_hidden_layers": 128}
    base = make_mixture(tmp_path / "base", "qwen3_moe", dtype=torch.bfloat16, **sizes)
    size = (base / "model.safetensors").stat().st_size
    small = make_mixture(tmp_path / "small", "qwen3_moe", dtype=torch.bfloat16)
    peak = int(run_python(_LOADING, str(small), str(base)).stdout.split()[-1])
    assert size > 200e6
    assert peak < 0.6 * size
