"""A run's settings are sent as they hold there: files by their new places, the job's own cards, nothing merged."""

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.elsewhere.sent_config import sent_config
from qlora_studio.core.elsewhere.told import elsewhere_words
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import ElsewhereTold, Paused, WorkerStarted
from qlora_studio.core.run.run_state import RunState, fold, reduce

_CONFIG = RunConfig.model_validate(
    {
        "model": {"source": "owner/model"},
        "data": {"path": "/here/a.jsonl", "evaluation_path": "/here/b.jsonl", "more": [{"path": "owner/set"}]},
        "hardware": {"gpus": "GPU-0123"},
    }
)
_MOVED = {"/here/a.jsonl": "/there/1/a.jsonl", "/here/b.jsonl": "/there/2/b.jsonl"}


def test_files_are_named_by_where_they_are_sent_and_names_of_the_hub_stay() -> None:
    sent = sent_config(_CONFIG, Place(name="c"), _MOVED).config

    assert (sent.data.path, sent.data.evaluation_path) == ("/there/1/a.jsonl", "/there/2/b.jsonl")
    assert (sent.data.more[0].path, sent.model.source) == ("owner/set", "owner/model")


def test_all_else_stays_as_it_is_but_for_the_merge_which_is_done_here() -> None:
    sent = sent_config(_CONFIG, Place(name="c"), _MOVED)
    before, after = _CONFIG.model_dump(), sent.config.model_dump()
    for section in ("data", "hardware", "export"):
        before.pop(section), after.pop(section)

    assert before == after
    assert not sent.config.export.merge
    assert any("export here" in words for words in sent.changes)


@pytest.mark.parametrize(
    ("wish", "cards", "expected"),
    [
        ("GPU-0123", "1", "auto"),
        ("auto", "a100:4", "all"),
        ("cpu", "2", "cpu"),
        ("0,1", "1", "auto"),
        ("all", "0", "auto"),
    ],
)
def test_the_cards_are_those_that_the_job_is_given(wish: str, cards: str, expected: str) -> None:
    config = _CONFIG.with_value("hardware.gpus", wish)

    assert sent_config(config, Place(name="c", cards=cards), {}).config.hardware.gpus == expected


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "on c: submitted"),
        ({"standing": "waiting", "reason": "Priority"}, "on c: waiting in the queue (others come first)"),
        ({"standing": "running", "node": "node7"}, "on c: running on node7"),
        ({"standing": "over", "unreached_since": 5.0}, "on c: the job is over"),
    ],
)
def test_how_a_run_stands_there_is_a_line(facts: dict[str, object], words: str) -> None:
    assert elsewhere_words(ElsewhereTold.model_validate({"place": "c", **facts})) == words


def test_a_place_that_is_not_reached_concludes_nothing() -> None:
    told = ElsewhereTold(place="c", standing="running", node="n", unreached_since=1.0)

    assert "not reached since 19" in elsewhere_words(told)  # with the date, where it is not today
    assert elsewhere_words(told).endswith("the job goes on there")


def test_a_paused_run_that_was_submitted_again_is_about_to_begin() -> None:
    paused = fold(
        RunState(), [WorkerStarted(job="train", studio="1", pid=1), Paused(step=3, checkpoint="checkpoint-3")]
    )

    assert reduce(paused, ElsewhereTold(place="c", standing="waiting")).phase is Phase.STARTING
    assert reduce(paused, ElsewhereTold(place="c", standing="over")).phase is Phase.PAUSED
