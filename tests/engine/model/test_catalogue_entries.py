"""Entries of the catalogue are made from config files and counted against the models that transformers builds."""

import json
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from qlora_studio.storage.models.catalogue import CatalogueModel, model_catalogue
from tests.engine.catalogue_entries import built_parameters, entry, reason_against, renewed

QWEN = next(model for model in model_catalogue() if model.id == "Qwen/Qwen3-8B")
FACTS = {"id": "me/Mine-8B", "licence": "mit", "gated": False, "template": "", "date": "2026-11", "source": "here"}
SMALLEST = list({model.shape.family: model for model in reversed(model_catalogue())}.values())
OTHERS = [model for model in model_catalogue() if model not in SMALLEST]


@pytest.mark.parametrize("model", SMALLEST, ids=lambda model: model.id)
def test_the_smallest_of_each_family_counts_as_transformers_builds_it(model: CatalogueModel) -> None:
    assert built_parameters(model.config) == model.parameters


@pytest.mark.slow
@pytest.mark.parametrize("model", OTHERS, ids=lambda model: model.id)
def test_every_other_one_counts_as_transformers_builds_it(model: CatalogueModel) -> None:
    assert built_parameters(model.config) == model.parameters


def test_an_entry_that_is_written_is_read_as_it_was() -> None:
    [read] = tomllib.loads(entry(asdict(QWEN)))["model"]
    assert CatalogueModel(**read) == QWEN


def test_a_new_model_is_made_from_its_config_and_what_is_told_of_it(tmp_path: Path) -> None:
    wrapped = {"model_type": "mistral3", "text_config": QWEN.config, "torch_dtype": "bfloat16"}
    (tmp_path / "me--Mine-8B_config.json").write_text(json.dumps(wrapped))
    made = CatalogueModel(**renewed({}, FACTS, tmp_path))
    assert (made.title, made.licence, made.date, made.source) == ("Mine 8B", "mit", "2026-11", "here")
    assert (made.parameters, made.config, made.stored) == (QWEN.parameters, QWEN.config, "")


def test_one_that_is_stored_quantized_says_so(tmp_path: Path) -> None:
    config = {**QWEN.config, "quantization_config": {"quant_method": "fp8"}}
    (tmp_path / "me--Mine-8B_config.json").write_text(json.dumps(config))
    assert renewed({}, FACTS, tmp_path)["stored"] == "FP8"


def test_one_without_a_config_gets_its_facts_alone(tmp_path: Path) -> None:
    there: dict[str, Any] = asdict(QWEN)
    assert renewed(there, {"id": QWEN.id, "date": "2025-05"}, tmp_path) == {**there, "date": "2025-05"}


def test_what_cannot_be_counted_is_left_out_with_the_reason() -> None:
    assert reason_against(QWEN.config) == ""
    assert "is not counted exactly" in reason_against({**QWEN.config, "model_type": "qwen9"})
    assert "hidden_size" in reason_against({"model_type": "qwen3"})
