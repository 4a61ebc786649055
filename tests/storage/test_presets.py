"""The presets can be loaded, ask for nothing that is a mistake, and fit the cards that they are named after."""

import re

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import problems_before_start
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fit import FitVerdict, judge
from qlora_studio.core.memory.gpu_catalogue import GPUS
from qlora_studio.core.model.recommendation import recommended_learning_rate
from qlora_studio.storage.models.catalogue import find_in_catalogue
from qlora_studio.storage.presets import Preset, load_preset, preset_names, presets

FOR_A_CARD = [preset for preset in presets() if preset.name.endswith("gb")]


def test_the_starter_project_comes_first_then_the_smallest_model_and_last_what_is_for_any() -> None:
    names = [preset.name for preset in presets()]
    assert (names[:3], names[-1]) == (["starter", "4b-8gb", "8b-12gb"], "as-in-the-article")
    assert {preset.name for preset in presets()} == set(preset_names())


def test_every_preset_has_a_title_and_a_description() -> None:
    assert all(preset.title and preset.description.endswith(".") for preset in presets())


def test_the_starter_project_can_be_started_as_it_is() -> None:
    config = load_preset("starter")

    assert problems_before_start(config) == ()
    assert config.model.source == "starter"


def test_the_articles_values_stay_as_they_were_whatever_the_defaults_are() -> None:
    config = load_preset("as-in-the-article")

    assert (config.lora.rank, config.lora.alpha, config.lora.dropout) == (64, 64, 0.05)
    assert (config.training.gradient_checkpointing, config.training.loss_on) == ("on", "all")
    assert RunConfig().lora.dropout == 0
    assert all(preset.config.lora.dropout == 0 for preset in presets() if preset.name != "as-in-the-article")


@pytest.mark.parametrize("preset", FOR_A_CARD, ids=lambda preset: preset.name)
def test_a_preset_fits_every_card_of_the_size_it_is_named_after(preset: Preset) -> None:
    model = find_in_catalogue(preset.config.model.source)
    size = re.search(r"(\d+)gb", preset.name)
    assert model is not None and size is not None
    cards = [gpu for gpu in GPUS if gpu.name.endswith(f" {size[1]} GB") and gpu.compute >= 7.5]
    assert cards

    for card in cards:
        assert judge(estimate(preset.config, model.shape), card.free_bytes).verdict is FitVerdict.FITS, card.name


@pytest.mark.parametrize("preset", FOR_A_CARD, ids=lambda preset: preset.name)
def test_a_presets_learning_rate_is_the_recommended_one(preset: Preset) -> None:
    model = find_in_catalogue(preset.config.model.source)

    assert model is not None
    assert preset.config.training.learning_rate == recommended_learning_rate(model.parameters)
    assert preset.config.effective_batch == 16
