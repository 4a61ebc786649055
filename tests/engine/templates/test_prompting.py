"""A template is a stranger's program wherever a model is asked, too: in a chat, for a sample, in a verification."""

import ast
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.gguf.ollama import template_shape
from qlora_studio.engine.model.generation import prompt_inputs
from qlora_studio.engine.templates import sandbox
from qlora_studio.engine.templates.prompting import Prompting
from qlora_studio.engine.templates.sandbox import TemplateRefusal, rendered_texts
from qlora_studio.engine.verification.subject import rendered_ids
from tests.engine.templates.chat_templates import said, tokenizer_for

ASKED = [said("user", "Who are you?")]
ENDLESS = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
_PRODUCT = Path(sandbox.__file__).parents[2]


@pytest.fixture
def tokenizer(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


def test_a_model_is_asked_in_the_words_that_transformers_would_use(tokenizer: Any) -> None:
    conversations = [ASKED, [*ASKED, said("assistant", "“Me”,\nno <|im_end|>"), said("user", "So?")]]
    for opening in (True, False):
        theirs = [
            tokenizer.apply_chat_template(list(item), tokenize=False, add_generation_prompt=opening)
            for item in conversations
        ]
        assert Prompting().texts(tokenizer, conversations, opening=opening) == theirs


def test_the_run_hands_over_its_variables_and_its_day(tokenizer: Any) -> None:
    own = tokenizer_for("{{ strftime_now('%d %b %Y') }} {{ tone }} {{ messages[0].content }}", tokenizer)

    text = Prompting({"tone": "warm"}, datetime(2026, 11, 23)).text(own, ASKED)

    assert text == "23 Nov 2026 warm Who are you?"


def test_a_template_that_does_not_end_is_ended_wherever_a_model_is_asked(tokenizer: Any) -> None:
    own = tokenizer_for(ENDLESS, tokenizer)

    with pytest.raises(StudioError, match="does not come to an end"):
        rendered_texts(own.chat_template, [ASKED], variables={}, now=datetime(2026, 1, 1), opening=True, seconds=0.7)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% set a = 'x' * 4000000000 %}{{ a }}", "more than 1 GiB of memory"),
        ("{{ ['x' * 100000000] | length and 'y' * 40000000 }}", "writes more than 33,554,432 characters"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ raise_exception('no system prompt') }}", "the template refuses it: no system prompt"),
        ("{{ messages[0].content / 2 }}", "the template fails on it: TypeError"),
        ("{% for %}", "the template refuses it"),
    ],
)
def test_what_a_template_does_else_is_told_and_stays_in_its_child(template: str, why: str, tokenizer: Any) -> None:
    with pytest.raises(TemplateRefusal) as raised:
        prompt_inputs(tokenizer_for(template, tokenizer), [dict(turn) for turn in ASKED])

    assert why in (raised.value.detail or "")
    assert "chat template" in raised.value.message and raised.value.advice


def test_a_verification_and_a_modelfile_ask_in_the_sandbox_too(tokenizer: Any) -> None:
    own = tokenizer_for("{{ cycler.__init__.__globals__ }}", tokenizer)

    assert template_shape(own) is None
    with pytest.raises(TemplateRefusal):
        rendered_ids(own, [dict(turn) for turn in ASKED])


def test_templates_are_rendered_in_the_child_alone() -> None:
    rendering = {
        path.relative_to(_PRODUCT).as_posix()
        for path in _PRODUCT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("ChatTemplate", "apply_chat_template", "from_string")
    }

    assert rendering == {"engine/templates/child.py", "engine/templates/chat_template.py"}
