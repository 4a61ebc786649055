"""Entries of the catalogue are made from config files and counted against the models that transformers builds."""

import tomllib
from typing import Any

import pytest

from qlora_studio.storage.models.catalogue import CatalogueModel, model_catalogue
from tests.engine.catalogue_entries import built_parameters, entry, reason_against

QWEN: dict[str, Any] = next(model for model in model_catalogue() if model.id == "Qwen/Qwen3-8B").config


@pytest.mark.parametrize("model", [item for item in model_catalogue() if item.source], ids=lambda model: model.id)
def test_an_entry_with_a_source_counts_as_transformers_builds_it(model: CatalogueModel) -> None:
    assert built_parameters(model.config) == model.parameters


def test_an_entry_that_is_made_again_is_the_one_that_is_there() -> None:
    text = entry("Qwen/Qwen3-8B", QWEN, "apache-2.0", "qwen3", "here", gated=False)
    [made] = tomllib.loads(text)["model"]
    kept = next(model for model in model_catalogue() if model.id == "Qwen/Qwen3-8B")
    assert CatalogueModel(**{**made, "source": ""}) == kept


def test_what_cannot_be_counted_or_trained_is_left_out_with_the_reason() -> None:
    assert reason_against(QWEN) == ""
    assert reason_against({**QWEN, "quantization_config": {"quant_method": "fp8"}}) == "its weights are stored as FP8"
    assert "is not counted exactly" in reason_against({**QWEN, "model_type": "qwen9"})
    assert "hidden_size" in reason_against({"model_type": "qwen3"})
