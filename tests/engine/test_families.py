"""A dozen families that store their weights in different ways, all the way; the others: `make test-families`."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, CTRLConfig, LlamaConfig

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.engine.context import QuietReporter
from qlora_studio.engine.model.adapted import with_possible_checkpointing
from qlora_studio.engine.model.device import Device, choose_device
from tests.engine.family_trial import make_parts, try_family
from tests.engine.tiny_families import families
from tests.models_page import RESULTS

A_DOZEN = (
    "bloom",  # fused queries, keys and values; positions by slopes
    "codegen",  # fused otherwise, heads in blocks; never taught SDPA
    "falcon",  # one head of keys and values
    "gpt2",  # transposed layers, learned positions, n_embd
    "gpt_neo",  # local and global attention in turn
    "gpt_neox",  # a head of another name in files
    "gptj",  # n_head, rotary in part
    "lfm2",  # convolutions between attention
    "llama",
    "mamba2",  # no attention
    "opt",  # ffn_dim, positions that begin at 2
    "phi3",  # fused gate and up
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of what all families share."""
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.mark.parametrize("model_type", A_DOZEN)
def test_a_family_is_trained_and_merged_as_its_adapter_computes(model_type: str, parts: Path, tmp_path: Path) -> None:
    outcome = try_family(model_type, parts, tmp_path)
    assert outcome.verdict == "works", f"{outcome.stage}: {outcome.reason}\n{outcome.trace}"


def test_a_class_that_fails_in_its_own_code_is_refused_before_the_start(parts: Path, tmp_path: Path) -> None:
    outcome = try_family("xmod", parts, tmp_path)  # it wants to be told a language that no config names
    assert (outcome.verdict, outcome.stage) == ("refused", "trained")
    assert "Input language unknown" in outcome.reason and "Input language unknown" in outcome.plain


def test_every_class_of_the_installed_library_is_in_the_results() -> None:
    assert set(json.loads(RESULTS.read_text("utf-8"))) == set(families()), "run `make test-families`"


class Told(QuietReporter):
    """Remembers what it was warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, kind: str, message: str) -> None:
        """Remember."""
        self.warnings.append(f"{kind}: {message}")


def checkpointing_device() -> Device:
    """Return the device of a run that asks for checkpointing."""
    return choose_device(RunConfig.model_validate({"training": {"gradient_checkpointing": "on"}}), Told())


def test_checkpointing_is_left_out_by_name_where_a_class_has_none() -> None:
    model = AutoModelForCausalLM.from_config(CTRLConfig(vocab_size=32, n_embd=16, dff=16, n_layer=1, n_head=2))
    told = Told()
    assert not with_possible_checkpointing(model, checkpointing_device(), told).gradient_checkpointing
    assert len(told.warnings) == 1 and "CTRLLMHeadModel" in told.warnings[0]


def test_checkpointing_stays_where_a_class_has_it() -> None:
    tiny = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    told = Told()
    model = AutoModelForCausalLM.from_config(tiny)
    assert with_possible_checkpointing(model, checkpointing_device(), told).gradient_checkpointing
    assert not told.warnings
