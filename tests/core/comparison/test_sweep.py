"""A run again over a few values."""

import pytest

from qlora_studio.core.comparison.sweep import sweepable_settings, swept, variation
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import InvalidRunConfig


def _names(*texts: str, name: str = "mine") -> list[str]:
    return [config.name for config in swept(RunConfig(name=name), [variation(text) for text in texts])]


def test_every_combination_is_a_run_named_by_its_values() -> None:
    found = swept(RunConfig(name="mine"), [variation("lora.rank=8, 32"), variation("training.learning_rate=1e-4,2e-3")])

    assert [(run.name, run.lora.rank, run.training.learning_rate) for run in found] == [
        ("mine rank=8 learning_rate=1e-4", 8, 1e-4),
        ("mine rank=8 learning_rate=0.002", 8, 2e-3),
        ("mine rank=32 learning_rate=1e-4", 32, 1e-4),
        ("mine rank=32 learning_rate=0.002", 32, 2e-3),
    ]


def test_a_sweep_of_a_sweep_keeps_what_it_does_not_vary_in_the_name() -> None:
    assert _names("lora.rank=4", name="mine rank=8 dropout=0.1") == ["mine dropout=0.1 rank=4"]


def test_a_value_written_in_two_ways_is_one_run() -> None:
    assert _names("training.learning_rate=1e-4,0.0001,1e-4") == ["mine learning_rate=1e-4"]


def test_a_long_name_gives_way_and_the_values_stay() -> None:
    [name] = _names("training.learning_rate=1e-4", name="x" * 80)

    assert len(name) == 80
    assert name.endswith("x learning_rate=1e-4")


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("lora.rank=0,8",), "must be at least 1"),
        (("lora.rnk=8",), "did you mean lora.rank?"),
        (("lora.rank",), "Write it as"),
        (("lora.rank=",), "Write it as"),
        (("export.formats=adapter,safetensors",), "cannot be varied"),
        (("name=a,b",), "cannot be varied"),
        (("lora.rank=8", "lora.rank=16"), "varied twice"),
        (
            ("lora.rank=" + ",".join(map(str, range(1, 12))), "lora.alpha=" + ",".join(map(str, range(1, 12)))),
            "121 runs",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_made(texts: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidRunConfig, match=words.replace("?", r"\?")):
        _names(*texts)


def test_what_a_form_offers_to_vary_can_be_varied() -> None:
    for info in sweepable_settings():
        value = info.plain_text(info.default) or "x"
        if info.path == "data.template_date":
            value = "2026-05-01"
        assert len(_names(f"{info.path}={value}")) == 1
