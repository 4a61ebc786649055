"""What a preset or an old run would change, in the words of the form."""

from qlora_studio.core.config.run_config import RunConfig, all_settings
from qlora_studio.storage.presets import load_preset
from qlora_studio.ui.readiness.changes import changes


def test_a_change_names_the_setting_with_both_values_in_words_and_units() -> None:
    old = RunConfig()
    new = old.with_value("training.max_length", 4096).with_value("lora.rank", 32).with_value("training.packing", True)
    assert [(change.title, change.words) for change in changes(old, new)] == [
        ("LoRA rank", "16 → 32"),
        ("Max length", "2,048 tokens → 4,096 tokens"),
        ("Packing", "off → on"),
    ]
    assert changes(old, old) == ()


def test_model_and_data_are_named_without_their_folders_and_nothing_is_nothing() -> None:
    old = RunConfig().with_value("data.path", "/home/me/tickets.jsonl")
    found = {change.path: change.words for change in changes(old, load_preset("starter"))}
    assert found["model.source"] == "nothing → SmolLM2-135M-Instruct"
    assert found["data.path"] == "tickets.jsonl → starter.jsonl"
    assert found["training.learning_rate"] == "2e-4 → 5e-4"


def test_every_setting_that_a_draft_takes_over_is_told() -> None:
    kept = {"version", "hardware.gpus"}
    old, new = RunConfig().model_dump(), load_preset("as-in-the-article").model_dump()
    differing = set()
    for info in all_settings():
        one, other = old, new
        for part in info.path.split("."):
            one, other = one[part], other[part]
        if one != other:
            differing.add(info.path)
    told = {change.path for change in changes(RunConfig(), load_preset("as-in-the-article"))}
    assert told == differing - kept and len(told) > 4
