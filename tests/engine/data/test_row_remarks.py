"""What a row's preview says in words is what its tokens show."""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from transformers import AutoTokenizer

from qlora_studio.core.data.example import Example
from qlora_studio.core.data.report import RowPreview
from qlora_studio.core.data.row_verdict import ReadRow, RowVerdict
from qlora_studio.engine.data.preview import RowPreviewer
from qlora_studio.engine.data.tokenized_rows import RowPipeline
from tests.engine.templates.chat_templates import installed_templates, said, tokenizer_for

ANSWERS = ("Lost.", "At the depot.", "Tomorrow.", "Certainly.")


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


def preview_of(
    tokenizer: Any,
    messages: list[dict[str, Any]],
    loss_on: Literal["assistant", "last", "marked", "all"] = "assistant",
    *,
    keeps: bool = False,
) -> RowPreview:
    row = ReadRow(0, 1, 0, RowVerdict.OK, "", Example(messages=tuple(messages)), "")
    with RowPipeline(tokenizer, loss_on=loss_on, now=datetime(2026, 11, 23), keeps=keeps) as pipeline:
        return RowPreviewer(pipeline, tokenizer, 4096).previews([row], ["training"])[0]


def talk(*marks: bool | None) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for number, (mark, answer) in enumerate(zip(marks, ANSWERS, strict=False)):
        turns.append(said("user", f"Question {number}?"))
        turns.append(said("assistant", answer) | ({} if mark is None else {"trained": mark}))
    return turns


def trained_text(row: RowPreview) -> str:
    return "".join(piece.string for piece in row.tokens if piece.trained)


@pytest.mark.parametrize(
    ("loss_on", "marks", "unlearned", "remarks"),
    [
        ("assistant", (None, None, None), (), ()),
        ("assistant", (False, None, True), (0,), ("Answer 1 of 3 is not learned: the row marks it so.",)),
        ("all", (None, False, None), (1,), ("Answer 2 of 3 is not learned: the row marks it so.",)),
        ("assistant", (False, None, False), (0, 2), ("Answers 1 and 3 of 3 are not learned: the row marks it so.",)),
        (
            "last",
            (None, None, None, None),
            (0, 1, 2),
            ("Answers 1 to 3 of 4 are not learned: the run learns from the last answer alone.",),
        ),
        (
            "marked",
            (None, True, False),
            (0, 2),
            (
                "Answer 1 of 3 is not learned: the run learns from marked answers alone.",
                "Answer 3 of 3 is not learned: the row marks it so.",
            ),
        ),
    ],
)
def test_the_answers_that_are_named_as_not_learned_are_those_without_a_trained_token(
    tokenizer: Any, loss_on: Any, marks: tuple[bool | None, ...], unlearned: tuple[int, ...], remarks: tuple[str, ...]
) -> None:
    row = preview_of(tokenizer, talk(*marks), loss_on)
    trained = trained_text(row)
    assert [index for index in range(len(marks)) if ANSWERS[index] not in trained] == [*unlearned]
    assert row.remarks == remarks


def test_what_the_template_shows_nowhere_is_not_said_to_be_kept(tokenizer: Any) -> None:
    turns = talk(None, None)
    turns[1]["reasoning_content"] = "Look it up."
    row = preview_of(tokenizer, turns, keeps=True)
    assert "Look it up." not in row.text
    assert [remark.split(" (")[0] for remark in row.remarks] == ["The template leaves out reasoning of earlier answers"]


def test_reasoning_that_the_template_leaves_out_is_named_with_its_tokens_and_kept_reasoning_too(tokenizer: Any) -> None:
    own = tokenizer_for(installed_templates()["qwen3"], tokenizer)
    turns = talk(None, None)
    turns[1]["reasoning_content"] = "Look it up."
    turns[3]["reasoning_content"] = "The depot knows."
    dropped, kept = preview_of(own, turns), preview_of(own, turns, keeps=True)
    assert "Look it up." not in dropped.text
    tokens = len(tokenizer("Look it up.", add_special_tokens=False)["input_ids"])
    assert dropped.remarks == (f"The template leaves out reasoning of earlier answers ({tokens} tokens of reasoning).",)
    assert "Look it up." in trained_text(kept)
    assert kept.remarks == ("Each answer stands as if it were the last, and keeps its reasoning.",)
