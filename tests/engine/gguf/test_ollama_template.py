"""Ollama's template, rendered by Go's own text/template, is the chat template to the letter. Needs a Go compiler."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from qlora_studio.core.export.serving import modelfile
from qlora_studio.engine.gguf.ollama import template_shape
from tests.engine.families import make_tokenizer
from tests.engine.templates.chat_templates import installed_templates, tokenizer_for

pytestmark = pytest.mark.slow
_PROGRAM = """
package main

import (
\t"encoding/json"
\t"os"
\t"text/template"
)

type message struct{ Role, Content string }

func main() {
\tvar asked struct {
\t\tTemplate string
\t\tMessages []*message
\t}
\tif err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
\t\tpanic(err)
\t}
\tparsed := template.Must(template.New("").Option("missingkey=zero").Parse(asked.Template))
\tif err := parsed.Execute(os.Stdout, map[string]any{"Messages": asked.Messages}); err != nil {
\t\tpanic(err)
\t}
}
"""
CONVERSATIONS = [
    [("user", "Hello <there>")],
    [("user", "Hi"), ("assistant", "Good day"), ("user", "And  now?\n\n{{ .Role }}")],
    [("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes"), ("user", "So?")],
]


@pytest.fixture(scope="module")
def go_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that renders a template by Go's own library."""
    if shutil.which("go") is None:
        pytest.skip("there is no Go compiler here")
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(_PROGRAM)
    environment = {"HOME": str(folder), "PATH": str(Path(str(shutil.which("go"))).parent) + ":/usr/bin:/bin"}
    subprocess.run(["go", "build", "-o", "render", "main.go"], cwd=folder, check=True, env=environment)
    return folder / "render"


def rendered_by_go(program: Path, text: str, messages: list[dict[str, str]]) -> str:
    match = re.search(r'TEMPLATE """(.*?)"""', text, re.DOTALL)
    assert match is not None
    asked = {"Template": match[1], "Messages": [{"Role": m["role"], "Content": m["content"]} for m in messages]}
    done = subprocess.run([program], input=json.dumps(asked), capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(make_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def test_go_renders_every_template_that_is_written_as_the_chat_template_does(tokenizer: Any, go_template: Path) -> None:
    written = 0
    for name, template in installed_templates().items():
        own = tokenizer_for(template, tokenizer)
        shape = template_shape(own)
        if shape is None or "TEMPLATE" not in (text := modelfile("x.gguf", stops=[], shape=shape)):
            continue
        written += 1
        for turns in CONVERSATIONS:
            if turns[0][0] == "system" and shape.system is None:
                continue
            messages = [{"role": role, "content": content} for role, content in turns]
            expected = own.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            found = rendered_by_go(go_template, text, messages)
            assert expected in (found, f"{own.bos_token}{found}"), name
    assert written > 30  # of 44


def test_braces_at_the_edges_of_a_turn_are_rendered_as_they_are(tokenizer: Any, go_template: Path) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '{{-' + m['role'] + '{' + m['content'] + '}}}' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '{{-assistant{' }}{% endif %}"
    )
    shape = template_shape(tokenizer)
    assert shape is not None
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered_by_go(go_template, modelfile("x.gguf", stops=[], shape=shape), messages) == expected
