"""What vLLM does with an adapter is said before anybody tries: applied, scaled wrongly, or refused and why."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.export.formats import parse_format
from qlora_studio.core.export.serving import serving_commands
from qlora_studio.core.run.reports import ExportedFacts
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.export.vllm import vllm_facts
from qlora_studio.engine.model.adapted import attach_adapters, load_base
from qlora_studio.engine.model.device import Device
from qlora_studio.storage.runs.export_folder import read_export
from tests.engine.families import make_adapter, make_base
from tests.engine.mixtures import make_mixture
from tests.engine.training_run import make_run, run_to_end

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def facts(tmp_path: Path, family: str = "llama", **lora: Any) -> ExportedFacts:
    base = make_base(tmp_path / "base", family)
    settings = {"target_modules": ["q_proj", "v_proj"]} if family != "gpt2" else {"target_modules": ["c_attn"]}
    return ExportedFacts(**vllm_facts(make_adapter(tmp_path / "adapter", base, **{**settings, **lora}), base))


def test_a_plain_adapter_is_applied_whole(tmp_path: Path) -> None:
    assert facts(tmp_path).vllm_words == "4 of 4 modules will be applied by vLLM."


def test_a_scale_by_rslora_is_one_that_vllm_knows(tmp_path: Path) -> None:
    assert facts(tmp_path, use_rslora=True).vllm_applied == 4


@pytest.mark.parametrize(
    ("lora", "why"),
    [
        ({"modules_to_save": ["lm_head"]}, "whole modules (lm_head)"),
        ({"use_dora": True}, "no DoRA"),
        ({"lora_bias": True, "target_modules": ["q_proj"]}, "no biases"),
        ({"bias": "all"}, "no biases"),
        ({"trainable_token_indices": {"embed_tokens": [3, 5]}}, "tokens that are trained alone"),
        ({"r": 520}, "--max-lora-rank ends at 512"),
    ],
    ids=["whole modules", "DoRA", "lora_bias", "bias", "tokens", "rank"],
)
def test_what_vllm_refuses_is_said_by_name(tmp_path: Path, lora: dict[str, Any], why: str) -> None:
    if "bias" in lora or "lora_bias" in lora:
        base = make_base(tmp_path / "base", "llama", attention_bias=True)
        adapter = make_adapter(tmp_path / "adapter", base, **{"target_modules": ["q_proj", "v_proj"], **lora})
        found = ExportedFacts(**vllm_facts(adapter, base))
    else:
        found = facts(tmp_path, **lora)
    assert found.vllm_applied == 0 and found.vllm_modules > 0
    assert "vLLM refuses it" in found.vllm_problem and why in found.vllm_problem


def test_modules_with_a_scale_of_their_own_are_counted_out(tmp_path: Path) -> None:
    found = facts(tmp_path, alpha_pattern={"v_proj": 3})
    assert (found.vllm_applied, found.vllm_modules) == (2, 4)
    assert "v_proj" in found.vllm_problem and "alike" in found.vllm_problem


def test_a_family_without_adapters_is_named(tmp_path: Path) -> None:
    assert "GPT2LMHeadModel" in facts(tmp_path, "gpt2").vllm_problem


def test_adapters_on_experts_are_refused_by_name(tmp_path: Path) -> None:
    base, config = make_mixture(tmp_path / "base", "qwen3_moe"), RunConfig().with_value("lora.experts", True)
    model = attach_adapters(load_base(base, config, Device("cpu", torch.float32, "adamw_torch", False)), config)
    model.save_pretrained(str(tmp_path / "adapter"))
    found = ExportedFacts(**vllm_facts(tmp_path / "adapter", base))
    assert found.vllm_applied == 0 < found.vllm_modules and "experts laid out otherwise" in found.vllm_problem


def test_an_adapter_on_the_head_is_taken_where_the_family_allows_it(tmp_path: Path) -> None:
    assert facts(tmp_path / "llama", target_modules=["lm_head"]).vllm_applied == 1
    assert "lm_head" in facts(tmp_path / "qwen3", "qwen3", target_modules=["lm_head"]).vllm_problem


@pytest.mark.slow
def test_an_adapter_that_is_exported_says_it_and_offers_vllm_only_where_it_serves(
    tmp_path: Path, tiny_llama: Path
) -> None:
    for dora, words in ((False, "14 of 14 modules will be applied by vLLM."), (True, "vLLM refuses it")):
        run = make_run(tmp_path / str(dora), tiny_llama, "training.max_steps=1", f"lora.dora={json.dumps(dora)}")
        assert run_to_end(run).failure is None
        [exported] = export_run(run, formats=["adapter"], channel=QUIET)
        assert words in exported.facts.vllm_words
        assert read_export(Path(exported.path)).vllm_modules == 14
        card = (Path(exported.path) / "README.md").read_text()
        assert words in card and ("vllm serve" in card) is not dora


def test_the_command_for_vllm_is_left_out_where_it_would_fail(tmp_path: Path) -> None:
    commands = serving_commands(parse_format("adapter"), tmp_path, base="x", vllm=False)
    assert [command.program for command in commands] == ["transformers"]
