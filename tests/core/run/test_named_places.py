"""What of a run's settings names files is known in one place, and nothing of it is forgotten."""

from qlora_studio.core.config.run_config import RunConfig, all_settings
from qlora_studio.core.run.named_places import named_places, renamed

_OTHER_TEXTS = {
    "model.revision",
    "data.subset",
    "data.split",
    "data.revision",
    "data.evaluation_split",
    "data.template_date",
    "lora.target_modules",
    "hardware.gpus",
}
_CONFIG = RunConfig.model_validate(
    {
        "model": {"source": "model"},
        "quantization": {"original": "original"},
        "data": {"path": "data", "evaluation_path": "held out", "more": [{"path": "one"}, {"path": "two"}]},
        "lora": {"start_from": "adapter"},
    }
)


def test_every_setting_of_free_text_names_a_place_or_is_known_not_to() -> None:
    texts = {info.path for info in all_settings() if isinstance(info.default, str) and not info.choices}

    assert texts - {setting for setting, _ in named_places(RunConfig())} == _OTHER_TEXTS


def test_each_is_named_anew_and_all_else_stays() -> None:
    anew = renamed(_CONFIG, lambda setting, name: f"{setting}: {name}")

    assert list(named_places(anew)) == [(setting, f"{setting}: {name}") for setting, name in named_places(_CONFIG)]
    assert renamed(anew, lambda setting, name: name.removeprefix(f"{setting}: ")) == _CONFIG
