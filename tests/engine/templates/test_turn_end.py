"""The token that ends a turn is what the model stops at and the template writes, whatever it is called."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from qlora_studio.core.data.example import Example
from qlora_studio.engine.data.tokenized_rows import IGNORED, RowPipeline
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.templates.chat_template import ChatTemplate
from qlora_studio.engine.templates.shape import TemplateShape
from qlora_studio.engine.templates.turn_end import TurnEnds, turn_ends
from tests.engine.templates.chat_templates import CONVERSATIONS, installed_templates, said, tokenizer_for

NOW = datetime(2026, 11, 23)
# What the families' generation configs say, by the template that trl has of them.
EOS_LISTS = {
    "glm4moe": ["<|endoftext|>", "<|user|>", "<|observation|>"],
    "gptoss": ["<|return|>", "<|endoftext|>", "<|call|>"],
    "llama3_1": ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
    "qwen3": ["<|im_end|>", "<|endoftext|>"],
    "phi3": ["<|end|>", "<|assistant|>", "<|endoftext|>"],
    "gemma3": ["<eos>", "<end_of_turn>"],
    "cohere2": ["<|END_OF_TURN_TOKEN|>"],
    "deepseekv3": ["<｜end▁of▁sentence｜>"],
}
ENDS = {
    "glm4moe": ("<|user|>", "<|observation|>"),
    "gptoss": ("<|return|>", "<|call|>"),
    "llama3_1": ("<|eot_id|>", "<|eot_id|>"),
    "qwen3": ("<|im_end|>", "<|im_end|>"),
    "phi3": ("<|end|>", "<|end|>"),
    "gemma3": ("<end_of_turn>", "<end_of_turn>"),
    "cohere2": ("<|END_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    "deepseekv3": ("<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
}
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.mark.parametrize("known", [True, False], ids=["eos list", "no eos list"])
@pytest.mark.parametrize("name", sorted(ENDS))
def test_answers_and_calls_end_as_the_family_says_with_its_eos_list_and_without(
    name: str, known: bool, tokenizer: Any
) -> None:
    found = _ends(installed_templates()[name], tokenizer, EOS_LISTS[name] if known else [])
    assert (found.after_answer, found.after_call) == ENDS[name]
    assert set(ENDS[name]) <= set(found.stops)


def test_what_ends_a_turn_only_in_the_middle_stops_no_generation(tokenizer: Any) -> None:
    found = _ends(installed_templates()["gptoss"], tokenizer, EOS_LISTS["gptoss"])
    assert "<|end|>" in found.tokens
    assert "<|end|>" not in found.stops  # it ends the reasoning, too


def test_a_base_model_with_another_eos_stops_where_its_template_ends_an_answer() -> None:
    found = _of(CHATML, ["<|im_start|>", "<|im_end|>", "<|endoftext|>"], "<|endoftext|>")
    assert found.after_answer == "<|im_end|>"
    assert found.stops == ("<|endoftext|>", "<|im_end|>")


def test_the_name_of_a_token_does_not_matter() -> None:
    template = CHATML.replace("<|im_end|>", "<|reserved_special_token_7|>")
    found = _of(template, ["<|im_start|>", "<|reserved_special_token_7|>"], "<|reserved_special_token_7|>")
    assert (found.tokens, found.after_answer) == (("<|reserved_special_token_7|>",), "<|reserved_special_token_7|>")


def test_a_header_is_no_end_where_the_template_ends_the_last_answer() -> None:
    template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
        "{% if loop.last and m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    )
    found = _of(template, ["<user>", "<assistant>", "</s>"], "</s>")
    assert found.tokens == ("</s>",)


def test_a_template_that_ends_no_turn_is_closed_by_the_tokenizers_eos() -> None:
    found = _of("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", ["<e>"], "<e>")
    assert (found.tokens, found.after_answer, found.after_call) == (("<e>",), "<e>", "<e>")


@pytest.mark.parametrize("twin", [True, False], ids=["with trl's twin", "alone"])
def test_a_call_of_glm_is_trained_to_its_observation_token_and_an_answer_to_the_users(
    twin: bool, tmp_path: Path, tokenizer: Any
) -> None:
    """By the eos list in the model's folder; `</tool_call>` is an added token too, and ends no turn."""
    template = installed_templates()["glm4moe"] + ("" if twin else "{# another edition #}")
    own = _saved(template, tokenizer, EOS_LISTS["glm4moe"], tmp_path)
    called, tools = CONVERSATIONS["tools"]
    conversations = [Example(called, tools), Example(called[:2], tools), Example(CONVERSATIONS["two turns"][0])]
    with RowPipeline(own, loss_on="assistant", now=NOW) as pipeline:
        rows = pipeline.rows(conversations)
    for row, wanted in zip(rows, (["<|observation|>", "<|user|>"], ["<|observation|>"], ["<|user|>"] * 2), strict=True):
        assert [row.ids[last - 1] for _, last in row.runs] == own.convert_tokens_to_ids(wanted)
        assert row.rendered.ended


def test_an_eos_whose_name_looks_reserved_is_trained_once_and_no_second_one_is_added(
    tmp_path: Path, tokenizer: Any
) -> None:
    eos = "<|reserved_special_token_7|>"
    own = tokenizer_for(CHATML.replace("<|im_end|>", eos), tokenizer)
    own.add_special_tokens({"eos_token": eos})
    own.save_pretrained(tmp_path)
    with RowPipeline(tokenizer_of(tmp_path), loss_on="assistant", now=NOW) as pipeline:
        (row,) = pipeline.rows([Example((said("user", "Why?"), said("assistant", "Because.")))])
    assert [token for token in row.labels if token != IGNORED].count(own.eos_token_id) == 1
    assert row.ids.count(own.eos_token_id) == 2  # one ends the question
    assert (row.rendered.added, row.rendered.ended) == ("", True)


def _ends(template: str, tokenizer: Any, stops: list[str]) -> TurnEnds:
    own = tokenizer_for(template, tokenizer)
    own.add_tokens(stops, special_tokens=True)
    added = [token.content for token in own.added_tokens_decoder.values()]
    shape = TemplateShape(ChatTemplate(template, own.special_tokens_map, NOW))
    return turn_ends(shape, added, stops[0] if stops else own.eos_token, stops)


def _of(template: str, added: list[str], eos: str) -> TurnEnds:
    return turn_ends(TemplateShape(ChatTemplate(template, {}, NOW)), added, eos)


def _saved(template: str, tokenizer: Any, stops: list[str], folder: Path) -> Any:
    own = tokenizer_for(template, tokenizer)
    own.add_tokens(stops, special_tokens=True)
    own.save_pretrained(folder)
    ids = own.convert_tokens_to_ids(stops)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}), encoding="utf-8")
    return tokenizer_of(folder)
