"""Ollama's template is the chat template, or there is none."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from qlora_studio.core.export.serving import modelfile
from qlora_studio.engine.gguf.ollama import stop_texts, template_shape
from tests.engine.families import make_tokenizer

CHATML = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
OPENING = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML + OPENING
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}<turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] }}</turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
SYSTEM_IN_USER = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] "
    "{% if messages[0]['role'] == 'system' and loop.index <= 2 %}"
    "{{ messages[0]['content'] }}\n{% endif %}{{ m['content'] }} [/INST]{% elif m['role'] == 'assistant' %} "
    "{{ m['content'] }}</s>{% endif %}{% endfor %}"
)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    return AutoTokenizer.from_pretrained(make_tokenizer(tmp_path / "tokenizer"))


@pytest.mark.parametrize(
    ("template", "has_system", "preamble"),
    [
        (CHATML + OPENING, True, ""),
        (DEFAULT_SYSTEM, True, "<|im_start|>system\nBe kind.<|im_end|>\n"),
        (NO_SYSTEM, False, ""),
    ],
    ids=["chatml", "a system prompt of its own", "no system"],
)
def test_a_template_of_plain_turns_is_found(tokenizer: Any, template: str, has_system: bool, preamble: str) -> None:
    tokenizer.chat_template = template
    shape = template_shape(tokenizer)
    assert shape is not None
    assert (shape.system is not None) == has_system
    assert shape.preamble == preamble
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert shape.render(messages) == tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ loop.index }}{{ m['content'] }}{% endfor %}",
        "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}",
        "{% for m in messages %}{% if loop.last %}{{ m['content'] }}{% endif %}{% endfor %}",
        "{{ raise_exception('never') }}",
    ],
)
def test_a_template_that_is_more_than_turns_is_not_written(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    assert template_shape(tokenizer) is None


def test_a_system_text_inside_the_users_turn_is_left_out_of_the_shape(tokenizer: Any) -> None:
    tokenizer.chat_template = SYSTEM_IN_USER
    shape = template_shape(tokenizer)
    assert shape is None or shape.system is None


def test_the_stop_texts_are_the_end_token_and_the_turns_end(tokenizer: Any) -> None:
    tokenizer.eos_token = "<|endoftext|>"
    assert stop_texts(tokenizer, template_shape(tokenizer)) == ["<|endoftext|>", "<|im_end|>"]
    text = modelfile("x.gguf", stops=stop_texts(tokenizer, template_shape(tokenizer)), shape=None)
    assert text.count("PARAMETER stop") == 2
    assert json.dumps("<|im_end|>") in text
