"""The rows that are trained: cut, split, left out or refused as was said; and the trainer feeds what was shown."""

import gzip
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.plan import rendering_day
from qlora_studio.engine.data.prepared import PreparedData, prepare_datasets
from qlora_studio.engine.data.preview import RowPreviewer
from qlora_studio.engine.data.tally import DAMAGED, RowTally
from qlora_studio.engine.data.tokenized_rows import IGNORED, RowPipeline
from qlora_studio.engine.model.adapted import attach_adapters, load_base
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.training.setup import build_trainer
from qlora_studio.storage.datasets.reader import open_dataset
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.settings import cache_path


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return tokenizer_of(tiny_llama)


@pytest.fixture
def context(tmp_path: Path) -> Iterable[JobContext]:
    made = JobContext(RunFolder(tmp_path / "run"))
    yield made
    made.close()


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def config_for(path: Path, **training: Any) -> RunConfig:
    return from_mapping({"data": {"path": str(path)}, "training": {"max_length": 64, **training}})


def prepared(path: Path, tokenizer: Any, context: JobContext, *settings: str, **training: Any) -> PreparedData:
    config = from_mapping(config_for(path, **training).model_dump(), settings)
    return prepare_datasets(config, tokenizer, context.folder, context)


def warnings_of(context: JobContext) -> list[str]:
    return [event.message for event in context.folder.events() if event.type == "warned"]


@pytest.mark.parametrize("loss_on", ["assistant", "all"])
def test_the_trainer_feeds_id_for_id_what_the_preview_showed(
    loss_on: str, tiny_llama: Path, tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    answers = ["Yes. " * (number % 30) + "Done." for number in range(40)]
    path = write(tmp_path / "rows.jsonl", [chat(f"Is it {number}?", text) for number, text in enumerate(answers)])
    config = config_for(path, loss_on=loss_on, batch_size=4)
    data = prepare_datasets(config, tokenizer, context.folder, context)
    device = choose_device(config, context)
    trainer = build_trainer(
        model=attach_adapters(load_base(tiny_llama, config, device), config),
        tokenizer=tokenizer,
        training=data.training,
        evaluation=data.evaluation,
        config=config,
        device=device,
        context=context,
        made_from=Fingerprints(),
    )
    rows = {row.number: row for row in open_dataset(config.data).rows()}
    seen: set[int] = set()
    with RowPipeline(tokenizer, loss_on=config.training.loss_on, now=rendering_day(context.folder)) as pipeline:
        previewer = RowPreviewer(pipeline, tokenizer, config.training.max_length)
        for batch in trainer.get_train_dataloader():
            numbers = batch["rows"]
            seen |= set(numbers)
            previews = previewer.previews([rows[number] for number in numbers], ["training"] * len(numbers))
            for preview, ids, labels in zip(
                previews, batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True
            ):
                kept = [piece for piece in preview.tokens if not piece.cut]
                padding = len(ids) - len(kept)
                assert ids == [piece.id for piece in kept] + [tokenizer.pad_token_id] * padding
                shown = [piece.id if piece.trained else IGNORED for piece in kept]
                assert labels == shown + [IGNORED] * padding
        assert any(preview.tokens[-1].cut for preview in previewer.previews([rows[29]], ["training"]))
    assert len(seen) == 36


def test_the_end_of_turn_token_is_trained_although_it_is_the_padding_token_too(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    assert tokenizer.pad_token_id is not None
    data = prepared(write(tmp_path / "d.jsonl", [chat("A?", "B."), chat("C?", "D.")]), tokenizer, context)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for row in data.training:
        assert [label for label in row["labels"] if label != IGNORED][-1] == end


def test_rows_are_cut_at_the_max_length_and_those_without_an_answer_left_are_left_out(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    rows = [chat("Short?", "Yes."), chat("Long?", "word " * 200), chat("word " * 200, "Never reached.")]
    data = prepared(write(tmp_path / "d.jsonl", rows), tokenizer, context, "data.evaluation_share=0")
    assert [len(row["input_ids"]) <= 64 for row in data.training] == [True, True]
    assert sorted(data.training["row"]) == [0, 1]
    assert data.facts.rejected_rows == 1
    assert data.facts.longest == 64
    assert data.tally.problems[0]["line"] == 3
    assert "beyond the max length" in warnings_of(context)[0]


def test_equal_rows_are_on_the_same_side_of_the_split(tokenizer: Any, context: JobContext, tmp_path: Path) -> None:
    rows = [chat(f"Question {number // 3}?", "Answer.") for number in range(60)]
    data = prepared(write(tmp_path / "d.jsonl", rows), tokenizer, context)
    assert data.evaluation is not None
    questions = [{number // 3 for number in part["row"]} for part in (data.training, data.evaluation)]
    assert not questions[0] & questions[1]
    assert len(data.training) + len(data.evaluation) == 60
    assert data.tally.duplicates == 40


def test_the_split_depends_on_its_seed_and_nothing_else(tokenizer: Any, context: JobContext, tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [chat(f"Question {number}?", "Answer.") for number in range(50)])
    first = prepared(path, tokenizer, context)
    longer = prepared(path, tokenizer, context, max_length=128)
    other = prepared(path, tokenizer, context, "data.seed=7")
    assert first.evaluation is not None and longer.evaluation is not None and other.evaluation is not None
    assert first.evaluation["row"] == longer.evaluation["row"]
    assert first.evaluation["row"] != other.evaluation["row"]


def test_an_evaluation_file_of_ones_own_is_held_out_whole(tokenizer: Any, context: JobContext, tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [chat(f"Question {number}?", "Answer.") for number in range(10)])
    held = write(tmp_path / "held.jsonl", [chat(f"Held {number}?", "Answer.") for number in range(3)])
    data = prepared(path, tokenizer, context, f"data.evaluation_path={held}")
    assert data.evaluation is not None
    assert (len(data.training), len(data.evaluation)) == (10, 3)
    assert "Held 0?" in tokenizer.decode(data.evaluation[0]["input_ids"])


def test_the_same_rows_are_prepared_once_and_found_again_in_any_file(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    path = write(tmp_path / "d.jsonl", [chat(f"Question {number}?", "Answer.") for number in range(20)])
    first = prepared(path, tokenizer, context)
    again = prepared(path, tokenizer, context)
    assert again.folder == first.folder
    assert again.fingerprint == first.fingerprint
    assert again.facts.model_dump(exclude={"time"}) == first.facts.model_dump(exclude={"time"})
    packed = tmp_path / "d.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert prepared(packed, tokenizer, context).fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tally.json", "{"),
        ("tally.json", '{"trained_at": [1]}'),
        ("tally.json", "[" * 99_999),
        ("rows.npz", "PK"),
        ("fingerprint.json", '{"files": {"x": 1}}'),
        ("training.arrow", "x"),
    ],
)
def test_a_damaged_cache_is_made_again(
    tokenizer: Any, context: JobContext, tmp_path: Path, name: str, text: str
) -> None:
    path = write(tmp_path / "d.jsonl", [chat(f"Question {number}?", "Answer.") for number in range(20)])
    first = prepared(path, tokenizer, context)
    assert (first.folder / name).is_file()
    (first.folder / name).write_text(text, "utf-8")
    assert prepared(path, tokenizer, context).fingerprint == first.fingerprint
    kept = [item.name for item in (cache_path() / "datasets").iterdir() if item.is_dir()]
    assert kept == [first.folder.name]


def test_flipped_bits_in_what_is_counted_end_in_nothing_unforeseen(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    path = write(tmp_path / "d.jsonl", [chat(f"Question {number}?", "Answer.") for number in range(20)])
    folder = prepared(path, tokenizer, context).folder
    for file in (folder / "tally.json", folder / "rows.npz"):
        whole = file.read_bytes()
        for bit in range(0, len(whole) * 8, 41):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
            with suppress(*DAMAGED):
                RowTally.load(folder)
        file.write_bytes(whole)


def test_other_content_has_another_fingerprint(tokenizer: Any, context: JobContext, tmp_path: Path) -> None:
    rows = [chat(f"Question {number}?", "Answer.") for number in range(20)]
    first = prepared(write(tmp_path / "a.jsonl", rows), tokenizer, context)
    other = prepared(write(tmp_path / "b.jsonl", [*rows[:-1], chat("Question 19?", "Other.")]), tokenizer, context)
    assert first.fingerprint != other.fingerprint


def test_plain_text_is_trained_to_its_end(tokenizer: Any, context: JobContext, tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [{"text": "Once upon a time."}, {"text": "There was a ship."}])
    data = prepared(path, tokenizer, context, "data.evaluation_share=0")
    row = data.training[0]
    assert row["labels"] == [IGNORED, *row["input_ids"][1:]]
    assert row["input_ids"][-1] == tokenizer.eos_token_id
    assert data.facts.mask == "plain text, trained in full"


def test_bad_rows_are_left_out_and_told_or_refused_as_the_user_chose(
    tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    path = write(tmp_path / "d.jsonl", [chat("A?", "B."), "{broken\n", chat("C?", "D."), {"messages": []}])
    data = prepared(path, tokenizer, context)
    assert data.facts.rejected_rows == 2
    assert data.facts.training_rows + data.facts.evaluation_rows == 2
    assert any("could not be read: 2 rows." in text for text in warnings_of(context))
    with pytest.raises(StudioError, match=r"2 rows of d\.jsonl cannot be used") as caught:
        prepared(path, tokenizer, context, "data.bad_rows=stop")
    assert caught.value.kind == "data_refused"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["{broken\n"], "No row of d.jsonl can be read"),
        ([chat("word " * 200, "Never reached.")], "No row of d.jsonl can be trained"),
    ],
)
def test_data_without_a_row_to_train_is_refused(
    rows: list[Any], words: str, tokenizer: Any, context: JobContext, tmp_path: Path
) -> None:
    with pytest.raises(StudioError, match=words) as caught:
        prepared(write(tmp_path / "d.jsonl", rows), tokenizer, context)
    assert caught.value.kind == "data_refused"
    assert "line 1" in caught.value.message


def test_a_template_that_hides_its_answers_is_refused_unless_the_full_text_is_wanted(
    tiny_llama: Path, context: JobContext, tmp_path: Path
) -> None:
    hiding: Any = AutoTokenizer.from_pretrained(tiny_llama)
    hiding.pad_token = hiding.eos_token
    hiding.chat_template = (
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}{{ '!' if add_generation_prompt else '?' }}"
    )
    path = write(tmp_path / "d.jsonl", [chat(f"Question {number}?", f"Answer {number}.") for number in range(4)])
    with pytest.raises(StudioError, match="does not show where its answers begin") as caught:
        prepared(path, hiding, context)
    assert caught.value.kind == "data_refused"
    assert "training.loss_on" in caught.value.advice
    data = prepared(path, hiding, context, loss_on="all")
    assert data.facts.mask == "the full text"


def test_the_columns_have_the_types_that_they_were_given(tokenizer: Any, context: JobContext, tmp_path: Path) -> None:
    data = prepared(write(tmp_path / "d.jsonl", [chat("A?", "B."), chat("C?", "D.")]), tokenizer, context)
    types = {name: str(feature) for name, feature in data.training.features.items()}
    assert types == {"input_ids": "List(Value('int32'))", "labels": "List(Value('int32'))", "row": "Value('int64')"}
    assert torch.tensor(data.training[0]["input_ids"]).dtype == torch.int64
