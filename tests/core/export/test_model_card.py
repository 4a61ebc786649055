"""A card that tells what a model was made of, and nothing of the computer it was made on."""

from xml.etree import ElementTree

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.data.source_facts import SourceFacts
from qlora_studio.core.export.model_card import CardFacts, loss_picture, model_card, public_config, public_name

CONFIG = RunConfig.model_validate(
    {
        "name": "my run",
        "model": {"source": "/home/alice/models/Llama 3"},
        "data": {"path": "C:\\Users\\alice\\secret\\rows.jsonl", "evaluation_path": "~/alice/held.jsonl"},
    }
)


def test_a_card_holds_no_path_and_no_user() -> None:
    facts = CardFacts(title="my run", training_rows=10, loss_before=2.0, loss_after=1.25, versions={"torch": "2"})
    card = model_card(CONFIG, facts, has_curve=True)
    assert "alice" not in card
    assert "rows.jsonl" in card
    assert "1.2500" in card
    assert card.startswith("---\nbase_model: ")


def test_a_public_config_keeps_everything_but_folders() -> None:
    found = public_config(CONFIG)
    assert "alice" not in found.model_dump_json()
    assert found.lora == CONFIG.lora


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("starter", "starter"),
        ("/models/x.gguf", "x.gguf"),
        ("./here/x", "x"),
        ("D:\\m\\x", "x"),
        ("/", "local"),
    ],
)
def test_names_lose_their_folders(source: str, name: str) -> None:
    assert public_name(source) == name


def test_the_curve_is_a_picture_that_can_be_read() -> None:
    picture = loss_picture([(1, 2.5), (2, 2.0), (3, 1.5)], [(0, 2.4), (3, 1.6)])
    root = ElementTree.fromstring(picture)
    assert root.tag.endswith("svg")
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == 2
    assert loss_picture([], []) == ""


def test_a_card_names_each_dataset_with_its_weight_and_its_commit_and_no_folder() -> None:
    data = {"path": "/home/me/chats.jsonl", "more": [{"path": "maker/set", "weight": 0.5}]}
    config = from_mapping({"model": {"source": "maker/base"}, "data": data})
    sources = (
        SourceFacts(name="chats.jsonl", path="/home/me/chats.jsonl", training=90, evaluation=10),
        SourceFacts(name="maker/set", path="maker/set", weight=0.5, split="train", commit="abc123", training=50),
    )
    text = model_card(config, CardFacts(title="my run", sources=sources), has_curve=False)
    assert "- chats.jsonl and maker/set: " in text
    assert "- chats.jsonl: 90 rows, 10 held out" in text
    assert "- maker/set (weight 0.5, split train, commit `abc123`): 50 rows, 0 held out" in text
    assert "/home/me" not in text and "/home/me" not in str(public_config(config))
