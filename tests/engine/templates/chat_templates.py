"""The chat templates that the installed packages carry, each with a tokenizer that knows its control tokens."""

import ast
import copy
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

CONTROL = re.compile(r"<\|?[A-Za-z_｜▁][\w▁｜| ]*?\|?>|\[/?[A-Z_]+\]|</[a-z_]+>")
_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
_CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Rome"}}}


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CONVERSATIONS: dict[str, tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]] = {
    "one turn": ((said("user", "What is 2 + 2?"), said("assistant", "It is four.")), ()),
    "two turns": (
        (
            said("user", "Hello!"),
            said("assistant", "Hi, how are you?"),
            said("user", "Fine. 3 * 3?"),
            said("assistant", "Nine,\n\nof course. ü🙂"),
        ),
        (),
    ),
    "system": ((said("system", "Be brief."), said("user", "Hello!"), said("assistant", "Good day.")), ()),
    "reasoning inside": (
        (said("user", "Is it hard?"), said("assistant", "<think>\nLet me see.\n</think>\n\nNot at all.")),
        (),
    ),
    "reasoning inside, two turns": (
        (
            said("user", "Is it hard?"),
            said("assistant", "<think>\nLet me see.\n</think>\n\nNot at all."),
            said("user", "Sure?"),
            said("assistant", "<think>\nYes, yes.\n</think>\n\nQuite sure."),
        ),
        (),
    ),
    "reasoning apart": (
        (said("user", "Is it hard?"), said("assistant", "Not at all.", reasoning_content="Let me see.")),
        (),
    ),
    "tools": (
        (
            said("user", "How is the weather?"),
            said("assistant", "", tool_calls=[_CALL]),
            said("tool", "Sunny", name="get_weather"),
            said("assistant", "The sun shines."),
        ),
        (_WEATHER,),
    ),
}


@cache
def installed_templates() -> dict[str, str]:
    """Return every chat template of trl and transformers by name, without trl's training twins."""
    folder = _folder_of("trl") / "chat_templates"
    found = {path.stem: path.read_text("utf-8") for path in folder.glob("*.jinja")}
    known = {name: text for name, text in found.items() if not name.endswith("_training")}
    for path in sorted((_folder_of("transformers") / "models").rglob("processing_*.py")):
        source = path.read_text("utf-8")
        if "{%" in source and "endfor" in source:
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and "endfor" in node.value:
                    known[path.stem] = node.value
    return known


@cache
def training_twins() -> dict[str, tuple[str, str]]:
    """Return the templates of which trl has a training version, by name, each with it."""
    folder = _folder_of("trl") / "chat_templates"
    twins = {path.stem.removesuffix("_training"): path.read_text("utf-8") for path in folder.glob("*_training.jinja")}
    return {name: ((folder / f"{name}.jinja").read_text("utf-8"), twin) for name, twin in sorted(twins.items())}


def by_transformers(
    template: str, messages: Any, tools: Any = None, variables: dict[str, Any] | None = None, **how: Any
) -> tuple[str, list[tuple[int, int]]]:
    """Return what transformers renders, and the spans that the template marks as generated where that is asked for."""
    render: Any = render_jinja_template
    texts, spans = render([list(messages)], chat_template=template, tools=tools or None, **(variables or {}), **how)
    return texts[0], spans[0] if how.get("return_assistant_tokens_mask") else []


def tokenizer_for(template: str, tokenizer: Any) -> Any:
    """Return a copy of a tokenizer with this template, that knows the control tokens written in it."""
    own = copy.deepcopy(tokenizer)
    own.add_tokens(sorted(set(CONTROL.findall(template))), special_tokens=True)
    own.chat_template = template
    return own


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent
