"""A base model without a template is given one: chosen or a fallback, saved with it, or refused with the reason."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from qlora_studio.core.data.base_templates import BASE_TEMPLATES
from qlora_studio.core.data.example import Example
from qlora_studio.core.errors import StudioError
from qlora_studio.engine.data.answer_ends import AnswerEnds
from qlora_studio.engine.data.tokenized_rows import RowPipeline
from qlora_studio.engine.templates.base_template import choose_template, template_name
from qlora_studio.engine.templates.stop_tokens import stop_token_ids
from tests.engine.templates.chat_templates import CONVERSATIONS

NOW = datetime(2026, 11, 23)
LLAMA3 = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


@pytest.fixture
def smollm(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.fixture
def bare() -> Any:
    """A tokenizer without a template and without tokens of turns."""
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "word": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("name", sorted(BASE_TEMPLATES))
def test_each_template_trains_every_answer_to_its_end_and_nothing_else(name: str, smollm: Any) -> None:
    smollm.add_tokens(LLAMA3, special_tokens=True)
    choose_template(smollm, name)
    with RowPipeline(smollm, loss_on="assistant", now=NOW) as pipeline:
        row, system = pipeline.rows([Example(*CONVERSATIONS[what]) for what in ("two turns", "system")])
    spoken = [smollm.decode(row.ids[first:last]) for first, last in row.runs]
    ends = {"llama3": "<|eot_id|>"}.get(name, "<|im_end|>")  # which is this tokenizer's eos, too
    assert [text.strip() for text in spoken] == [f"Hi, how are you?{ends}", f"Nine,\n\nof course. ü🙂{ends}"]
    assert "Be brief." in system.rendered.text
    assert not AnswerEnds(smollm).is_open(row)
    assert smollm.convert_tokens_to_ids(ends) in stop_token_ids(smollm)
    assert template_name(smollm) == BASE_TEMPLATES[name].title


@pytest.mark.parametrize(("name", "lacks"), [("chatml", "<|im_start|> and <|im_end|>"), ("llama3", "<|eot_id|>")])
def test_a_template_whose_tokens_the_vocabulary_lacks_is_refused_and_others_are_named(
    name: str, lacks: str, bare: Any
) -> None:
    with pytest.raises(StudioError, match="new tokens, whose embeddings") as caught:
        choose_template(bare, name)
    assert lacks in caught.value.message
    assert "alpaca" in caught.value.advice and name not in caught.value.advice


def test_a_template_that_ends_answers_with_eos_is_refused_without_one(bare: Any) -> None:
    bare.eos_token = None
    with pytest.raises(StudioError, match="no end-of-text token"):
        choose_template(bare, "alpaca")


def test_auto_gives_back_the_models_own_template_after_another_one(smollm: Any) -> None:
    own = smollm.chat_template
    choose_template(smollm, "alpaca")
    assert smollm.chat_template != own
    choose_template(smollm, "auto")
    assert smollm.chat_template == own


def test_what_was_chosen_is_saved_with_the_tokenizer(smollm: Any, tmp_path: Path) -> None:
    smollm.chat_template = None
    choose_template(smollm, "alpaca")
    smollm.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    messages = [{"role": "user", "content": "Why?"}]
    text = again.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "### Instruction:\nWhy?\n\n### Response:\n"


@pytest.mark.parametrize("name", sorted(BASE_TEMPLATES))
def test_each_says_plainly_whether_a_token_is_added_or_an_embedding_trained(name: str) -> None:
    cost = BASE_TEMPLATES[name].cost
    assert cost.startswith("It adds no token") and "train" in cost
