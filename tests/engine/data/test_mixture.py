"""Several datasets in one run: weights, dropped duplicates, one split for all, and what is recorded of each."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from qlora_studio.core.config.run_config_text import from_mapping, from_toml, to_toml
from qlora_studio.core.errors import StudioError
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.prepared import PreparedData, prepare_datasets
from qlora_studio.engine.data.row_files import VERDICTS
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.storage.datasets.mixture import DatasetMixture
from qlora_studio.storage.datasets.reader import open_dataset
from qlora_studio.storage.runs.run_folder import RunFolder


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return tokenizer_of(tiny_llama)


@pytest.fixture
def context(tmp_path: Path) -> Iterable[JobContext]:
    made = JobContext(RunFolder(tmp_path / "run"))
    yield made
    made.close()


def chats(path: Path, numbers: Iterable[int], answer: str = "The answer.") -> str:
    turns = [[("user", f"Question {number}?"), ("assistant", f"{answer} {number}")] for number in numbers]
    rows = [{"messages": [{"role": role, "content": text} for role, text in chat]} for chat in turns]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def table(path: Path, numbers: Iterable[int]) -> str:
    path.write_text("Frage;Antwort\n" + "".join(f"Frage {n}?;Die Antwort {n}.\n" for n in numbers), "cp1252")
    return str(path)


def prepared(tokenizer: Any, context: JobContext, **data: Any) -> PreparedData:
    return prepare_datasets(from_mapping({"data": data}), tokenizer, context.folder, context)


def questions(rows: Any, tokenizer: Any) -> Counter[str]:
    return Counter(tokenizer.decode(ids).split("user\n")[1].split("<|im_end|>")[0] for ids in rows["input_ids"])


def german(path: str, weight: float = 1.0) -> dict[str, Any]:
    mapping = {"prompt": "Frage", "completion": "Antwort"}
    return {"path": path, "weight": weight, "mapping": mapping, "encoding": "cp1252"}


def test_each_dataset_is_read_its_own_way_and_recorded_with_its_share(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    chat, csv = chats(tmp_path / "chat.jsonl", range(20)), table(tmp_path / "more.csv", range(100, 120))
    data = prepared(tokenizer, context, path=chat, more=[german(csv, 0.5)], weight=2, evaluation_share=0.1)
    assert data.evaluation is not None
    first, second = data.facts.sources
    assert (first.name, first.weight, first.ok, first.seen) == ("chat.jsonl", 2, 20, 2 * first.training)
    assert (second.name, second.weight, second.ok, second.not_drawn) == ("more.csv", 0.5, 20, 10)
    assert first.evaluation + second.evaluation == len(data.evaluation) == 3
    assert first.seen + second.seen == data.facts.rows_per_epoch == len(data.training)
    assert first.trained_tokens + second.trained_tokens == data.facts.trained_tokens
    trained = questions(data.training, tokenizer)
    assert set(trained.values()) == {1, 2}
    assert not set(trained) & set(questions(data.evaluation, tokenizer))


def test_the_same_seed_draws_the_same_rows_and_another_one_others(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    path = chats(tmp_path / "chat.jsonl", range(40))
    once, again, other = (
        prepared(tokenizer, context, path=path, weight=0.5, evaluation_share=0.0, seed=seed).fingerprint
        for seed in (1, 1, 2)
    )
    assert once == again != other


def test_a_row_of_one_dataset_and_its_near_duplicate_in_another_are_on_the_same_side(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    one, two = chats(tmp_path / "a.jsonl", range(30)), chats(tmp_path / "b.jsonl", range(30), answer="THE  answer!")
    data = prepared(tokenizer, context, path=one, more=[{"path": two, "weight": 3}], evaluation_share=0.2)
    assert data.evaluation is not None
    assert (data.tally.duplicates, data.tally.near_duplicates) == (0, 30)
    assert not set(questions(data.training, tokenizer)) & set(questions(data.evaluation, tokenizer))


@pytest.mark.parametrize(("choice", "left"), [("keep", 30), ("drop_exact", 20), ("drop_near", 10)])
def test_duplicates_are_dropped_as_the_user_says_and_told_row_by_row(
    choice: str, left: int, tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    one = chats(tmp_path / "a.jsonl", range(10))
    others = (chats(tmp_path / "b.jsonl", range(10)), chats(tmp_path / "c.jsonl", range(10), "the ANSWER"))
    more = [{"path": path} for path in others]
    data = prepared(tokenizer, context, path=one, more=more, duplicates=choice, evaluation_share=0.0)
    assert len(data.training) == left
    assert (data.facts.duplicates, data.facts.dropped_rows) == (choice, 30 - left)
    lines = [json.loads(line) for line in (data.folder / VERDICTS).read_text("utf-8").splitlines()]
    assert [line["verdict"] for line in lines] == ["duplicate"] * (30 - left)
    if lines:
        assert (lines[0]["dataset"], lines[0]["line"], lines[0]["reason"]) == ("b.jsonl", 1, "repeats row 1")


def test_an_evaluation_file_has_its_own_verdicts_and_lends_nothing_of_the_training_rows(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    path = chats(tmp_path / "train.jsonl", range(10))
    own = Path(chats(tmp_path / "own.jsonl", [3, 50, 51]))
    own.write_text(own.read_text("utf-8") + '{"messages": [\n', "utf-8")
    data = prepared(tokenizer, context, path=path, evaluation_path=str(own))
    assert data.evaluation is not None and data.facts.evaluation is not None
    assert len(data.training) == 10
    facts = data.facts.evaluation
    assert (facts.name, facts.ok, facts.rejected, facts.in_training, facts.used) == ("own.jsonl", 3, 1, 1, 2)
    assert sorted(questions(data.evaluation, tokenizer)) == ["Question 50?", "Question 51?"]
    (line,) = [json.loads(line) for line in (data.folder / VERDICTS).read_text("utf-8").splitlines()]
    assert (line["of"], line["dataset"], line["line"], line["verdict"]) == (
        "evaluation rows",
        "own.jsonl",
        4,
        "rejected",
    )
    with pytest.raises(StudioError, match="All of them are in the training data"):
        prepared(tokenizer, context, path=path, evaluation_path=chats(tmp_path / "same.jsonl", range(4)))


def test_a_run_that_stops_at_bad_rows_stops_at_those_of_the_evaluation_file_too(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    own = Path(chats(tmp_path / "own.jsonl", [50]))
    own.write_text(own.read_text("utf-8") + "no row\n", "utf-8")
    path = chats(tmp_path / "train.jsonl", range(4))
    with pytest.raises(StudioError, match="1 rows"):
        prepared(tokenizer, context, path=path, evaluation_path=str(own), bad_rows="stop")


def test_a_dataset_that_gives_nothing_is_refused_by_name(tokenizer: Any, context: JobContext, tmp_path: Path) -> None:
    more = [{"path": table(tmp_path / "fragen.csv", range(3)), "encoding": "cp1252"}]  # no column has its part
    words = "No row of fragen.csv can be used.*prompt = Frage, completion = Antwort.*line 2"
    with pytest.raises(StudioError, match=words) as refused:
        prepared(tokenizer, context, path=chats(tmp_path / "chats.jsonl", range(20)), more=more)
    assert refused.value.kind == "data_refused"


def test_a_run_file_says_it_all_and_comes_back_the_same() -> None:
    more = [{"path": "b.csv", "weight": 0.5, "mapping": {"text": "story"}, "encoding": "cp1252"}, {"path": "maker/set"}]
    config = from_mapping({"data": {"path": "a.jsonl", "more": more, "duplicates": "drop_near"}})
    assert from_toml(to_toml(config)) == config
    assert "[[data.more]]" in to_toml(config)
    assert [source.path for source in config.data.sources] == ["a.jsonl", "b.csv", "maker/set"]


def test_rows_are_numbered_through_and_datasets_before_a_row_are_passed_over(tmp_path: Path) -> None:
    paths = [chats(tmp_path / name, range(3)) for name in ("a.jsonl", "b.jsonl")]
    config = from_mapping({"data": {"path": paths[0], "more": [{"path": paths[1]}]}})
    mixture = DatasetMixture([open_dataset(source) for source in config.data.sources])
    told: list[tuple[int, int]] = []
    rows = list(mixture.rows(progress=lambda done, total: told.append((done, total))))
    assert [(row.number, row.source, row.line, row.file) for row in rows][2:4] == [
        (2, 0, 3, "a.jsonl"),
        (3, 1, 1, "b.jsonl"),
    ]
    assert told[-1][0] == told[-1][1] == 2 * mixture.total_bytes
    assert [row.number for row in mixture.rows(first=4)] == [3, 4, 5]


def test_datasets_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    paths = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths.append(chats(tmp_path / name / "train.jsonl", range(2)))
    config = from_mapping({"data": {"path": paths[0], "more": [{"path": paths[1]}]}})
    mixture = DatasetMixture([open_dataset(source) for source in config.data.sources])
    assert mixture.names == ("train.jsonl (1)", "train.jsonl (2)")
