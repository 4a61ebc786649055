"""Chat templates, rendered as transformers renders them, with nothing heavy imported: this runs in the sandbox's child.

tests/engine/templates/test_rendering.py holds this equal to `tokenizer.apply_chat_template` for every template that
is installed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Stand around what a template marks as generated; private use characters, taken out again before anybody sees them.
SPAN_START, SPAN_END = "\U000f0002", "\U000f0003"
_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
REASONING = ("reasoning_content", "thinking", "reasoning")
# What templates raise where they do not take a conversation: by their own words, or by what they stumble over.
REFUSALS = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)

Message = Mapping[str, Any]


class ChatTemplate:
    """A chat template with the variables that it sees besides the messages.

    Where `in_parts`, contents are handed over as `[{"type": "text", "text": …}]`, as templates of vision models want.
    """

    def __init__(self, source: str, variables: Mapping[str, Any], now: datetime) -> None:
        self.in_parts = False
        self.has_markers = _MARKERS.search(source) is not None
        self._variables = dict(variables)
        self._plain = _compiled(source, "", "", now)
        self._marked = _compiled(source, SPAN_START, SPAN_END, now) if self.has_markers else self._plain

    def render(
        self, messages: Sequence[Message], tools: Sequence[Any] | None = None, *, generation_prompt: bool = False
    ) -> str:
        """Return the text of a conversation. Raises jinja2's TemplateError, or whatever the template provokes."""
        return self._render(self._plain, messages, tools, generation_prompt)

    def render_marked(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> str:
        """Return the text with SPAN_START and SPAN_END around what the template says is generated."""
        return self._render(self._marked, messages, tools, False)

    def _render(
        self,
        template: jinja2.Template,
        messages: Sequence[Message],
        tools: Sequence[Any] | None,
        generation_prompt: bool,
    ) -> str:
        return template.render(
            messages=[self._handed_over(message) for message in messages],
            tools=list(tools) if tools else None,
            documents=None,
            add_generation_prompt=generation_prompt,
            **self._variables,
        )

    def _handed_over(self, message: Message) -> dict[str, Any]:
        """Drop what is None, and give the reasoning under each name that templates read, as transformers does."""
        plain = {key: value for key, value in message.items() if value is not None and key != "trained"}
        if self.in_parts and isinstance(plain.get("content"), str):
            plain["content"] = [{"type": "text", "text": plain["content"]}]
        reasoning = next((plain[key] for key in REASONING if key in plain), None)
        return plain if reasoning is None else {"thinking": reasoning, **plain, "reasoning_content": reasoning}


def variables_read(source: str) -> list[str]:
    """Return the names that a template reads and does not set itself."""
    environment = _environment("", "", datetime(2000, 1, 1))
    return sorted(meta.find_undeclared_variables(environment.parse(source)))


class _Generation(Extension):
    """Understands `{% generation %}`: leaves its body as it is, between the environment's two span texts."""

    tags = {"generation"}  # noqa: RUF012  as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_spanned"), [], [], body).set_lineno(line)

    def _spanned(self, caller: Any) -> str:
        span: Any = self.environment.globals["_span"]
        start, end = span
        return f"{start}{caller()}{end}"


class _Dict:
    """`dict` without a way to reach the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """Return `dict.fromkeys`."""
        return dict.fromkeys(*args, **kwargs)


def _compiled(source: str, start: str, end: str, now: datetime) -> jinja2.Template:
    template = _environment(start, end, now).from_string(source)
    template.globals = dict(template.globals)  # else a chain of dicts, which is walked at each rendering
    return template


def _environment(start: str, end: str, now: datetime) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["_span"] = (start, end)
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = now.strftime
    environment.globals["dict"] = _Dict()
    return environment


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Replace jinja2's own filter, which escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
