"""A second opinion on where what is trained ends: green for what the mask makes, red where the mask is broken."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from qlora_studio.core.data.example import Example
from qlora_studio.engine.data.answer_ends import AnswerEnds
from qlora_studio.engine.data.tokenized_rows import RowPipeline, Runs, TokenizedRow
from tests.engine.templates.chat_templates import CONVERSATIONS, installed_templates, tokenizer_for

NOW = datetime(2026, 11, 23)
SOME = ("qwen3", "glm4moe", "gptoss", "cohere2", "phi3", "gemma3", "deepseekv3", "llama3_1")
BROKEN: dict[str, Callable[[Runs], Runs]] = {
    "without its end": lambda runs: [(first, last - 1) for first, last in runs],
    "a token too far": lambda runs: [(first, last + 1) for first, last in runs],
    "without the end of the first answer": lambda runs: [(runs[0][0], runs[0][1] - 1), *runs[1:]],
    "the header alone": lambda runs: [(runs[0][0] - 2, runs[0][0] - 1), *runs[1:]],
}


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.mark.parametrize("name", SOME)
def test_it_agrees_with_the_mask_and_notices_each_way_of_breaking_it(name: str, tokenizer: Any) -> None:
    own = tokenizer_for(installed_templates()[name], tokenizer)
    rows = _rows(own, ["two turns", "system"])
    ends = AnswerEnds(own)
    assert not any(ends.is_open(row) or ends.is_doubled(row) for row in rows)
    two_turns = rows[0]
    for how, broken in BROKEN.items():
        runs = [(first, min(last, len(two_turns.ids))) for first, last in broken(two_turns.runs)]
        if runs != two_turns.runs:
            assert ends.is_open(replace(two_turns, runs=runs)), how


@pytest.mark.parametrize("name", ["qwen3", "glm4moe", "gptoss", "llama3_1", "qwen2_5"])
def test_a_call_ends_as_it_says(name: str, tokenizer: Any) -> None:
    own = tokenizer_for(installed_templates()[name], tokenizer)
    (row,) = _rows(own, ["tools"])
    assert not AnswerEnds(own).is_open(row)
    first, last = row.runs[0]
    assert AnswerEnds(own).is_open(replace(row, runs=[(first, last - 1), *row.runs[1:]]))


def test_an_end_that_is_trained_twice_is_noticed(tokenizer: Any) -> None:
    (row,) = _rows(tokenizer, ["one turn"])
    doubled = TokenizedRow(row.rendered, [*row.ids, tokenizer.eos_token_id], [(row.runs[0][0], len(row.ids) + 1)])
    doubled.ids[row.runs[0][1] - 1 :] = [tokenizer.eos_token_id] * (len(doubled.ids) - row.runs[0][1] + 1)
    assert AnswerEnds(tokenizer).is_doubled(doubled)
    assert not AnswerEnds(tokenizer).is_doubled(row)


@pytest.mark.parametrize("name", SOME)
def test_an_answer_that_is_a_part_of_its_end_token_has_one_end(name: str, tokenizer: Any) -> None:
    own = tokenizer_for(installed_templates()[name], tokenizer)
    answers = ("hello", "d", "im_end", "e", ">")
    told = [({"role": "user", "content": "c?"}, {"role": "assistant", "content": said}) for said in answers]
    with RowPipeline(own, loss_on="assistant", now=NOW) as pipeline:
        plain, *rows = pipeline.rows([Example(messages) for messages in told])
    ends = AnswerEnds(own)
    for said, row in zip(answers[1:], rows, strict=True):
        assert row.rendered.text == plain.rendered.text.replace("hello", said)
        assert len(row.rendered.spans) == len(plain.rendered.spans)
        assert not ends.is_doubled(row)


def test_an_end_that_is_trained_again_on_a_line_of_its_own_is_noticed(tokenizer: Any) -> None:
    (row,) = _rows(tokenizer, ["one turn"])
    last = row.runs[0][1]
    ids = [*row.ids[:last], *tokenizer("\n", add_special_tokens=False)["input_ids"], row.ids[last - 1]]
    assert AnswerEnds(tokenizer).is_doubled(TokenizedRow(row.rendered, ids, [(row.runs[0][0], len(ids))]))


def test_the_eos_list_of_the_models_folder_counts(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    (row,) = _rows(tokenizer, ["one turn"])
    word = row.ids[row.runs[0][1] - 2]
    shorter = replace(row, runs=[(row.runs[0][0], row.runs[0][1] - 1)])
    assert AnswerEnds(AutoTokenizer.from_pretrained(tmp_path)).is_open(shorter)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [word]}), encoding="utf-8")
    assert not AnswerEnds(AutoTokenizer.from_pretrained(tmp_path)).is_open(shorter)


def _rows(tokenizer: Any, names: list[str]) -> list[TokenizedRow]:
    with RowPipeline(tokenizer, loss_on="assistant", now=NOW) as pipeline:
        return pipeline.rows([Example(*CONVERSATIONS[name]) for name in names])
