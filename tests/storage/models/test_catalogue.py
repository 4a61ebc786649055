"""The catalogue of models."""

import re

import pytest

from qlora_studio.storage.models.catalogue import CatalogueModel, find_in_catalogue, model_catalogue


@pytest.mark.parametrize("model", model_catalogue(), ids=lambda model: model.id)
def test_a_models_parameters_follow_exactly_from_its_config(model: CatalogueModel) -> None:
    assert model.shape.exact
    assert model.shape.parameters == model.parameters


def test_the_catalogue_spans_from_small_to_405_billion() -> None:
    sizes = [model.parameters for model in model_catalogue()]
    assert len(sizes) >= 100
    assert sizes == sorted(sizes)
    assert sizes[0] < 500_000_000
    assert sizes[-1] > 400_000_000_000


def test_it_holds_ten_families_and_more() -> None:
    families = {model.shape.family for model in model_catalogue()}
    assert {"llama", "qwen2", "qwen3", "mistral", "gemma2", "phi3", "granite", "olmo2", "smollm3"} <= families
    assert {
        "qwen3_5_text",
        "qwen3_5_moe_text",
        "lfm2",
        "granitemoehybrid",
        "falcon_h1",
        "ministral3",
        "gemma4_text",
    } <= families
    assert len(families) >= 30


def test_every_one_says_when_it_came_out_and_those_of_this_year_are_there() -> None:
    dates = [model.date for model in model_catalogue()]
    assert all(re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", date) for date in dates)
    assert sum(date.startswith("2026") for date in dates) >= 10
    assert sum(date >= "2025-07" for date in dates) >= 30


@pytest.mark.parametrize("model", [item for item in model_catalogue() if item.source], ids=lambda model: model.id)
def test_a_source_is_a_public_page(model: CatalogueModel) -> None:
    assert re.match(r"https://(github\.com|huggingface\.co|ollama\.com)/", model.source)


def test_what_came_out_lately_names_its_source() -> None:
    assert all(model.source for model in model_catalogue() if model.date >= "2025-07")


def test_ids_are_unique_and_found_in_any_case() -> None:
    ids = [model.id for model in model_catalogue()]
    assert len(set(ids)) == len(ids)
    found = find_in_catalogue("qwen/qwen3-8b")
    assert found is not None
    assert found.title == "Qwen3 8B"
    assert find_in_catalogue("nobody/nothing") is None
