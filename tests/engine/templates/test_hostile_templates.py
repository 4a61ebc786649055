"""Templates that fail, never end or take all memory: each is told for what it is, and the next row goes on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.templates.sandbox import TemplateSandbox

_CHATML = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
_SOUND = [{"role": "user", "content": "Two and two?"}, {"role": "assistant", "content": "Four."}]
_BAD = [{"role": "user", "content": "BAD"}, {"role": "assistant", "content": "Four."}]
_IF_BAD = "{{% if messages[0].content == 'BAD' %}}{}{{% endif %}}" + _CHATML.replace("{", "{{").replace("}", "}}")
_MEMORY = "the template needs more than 1 GiB of memory"
_FAILURES = {
    "raises": ("{{ raise_exception('not with me') }}", "the template refuses it: not with me"),
    "divides": ("{{ 1 // 0 }}", "ZeroDivisionError"),
    "adds": ("{{ messages + 1 }}", "TypeError"),
    "counts": ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
    "recurs": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
    "looks around": ("{{ ''.__class__.__mro__ }}", "the template refuses it: access to attribute '__class__'"),
    "repeats": ("{{ 'a' * 10**10 }}", _MEMORY),
    "pads": ("{{ '%9999999999d' % 1 }}", _MEMORY),
}


@pytest.fixture
def sandbox() -> Iterator[Callable[[str], TemplateSandbox]]:
    """Make sandboxes, which are closed behind the test."""
    with ExitStack() as stack:

        def make(template: str) -> TemplateSandbox:
            tokens = ["<|im_start|>", "<|im_end|>"]
            made = TemplateSandbox(
                template, variables={}, control_tokens=tokens, end_token="<|im_end|>", now=datetime(2026, 1, 1),
                batch_seconds=20.0, row_seconds=10.0,
            )  # fmt: skip
            stack.callback(made.close)
            return made

        yield make


def test_what_a_template_fails_by_on_a_row_is_told_and_the_others_are_rendered(
    sandbox: Callable[[str], TemplateSandbox],
) -> None:
    cases = [f"{{% if messages[0].content == '{name}' %}}{does}{{% endif %}}" for name, (does, _) in _FAILURES.items()]
    rows = [[{**_SOUND[0], "content": name}, _SOUND[1]] for name in _FAILURES]

    *failed, sound = sandbox("".join(cases) + _CHATML).render([(row, None, None) for row in [*rows, _SOUND]])

    told = {name: answer["error"] for name, answer in zip(_FAILURES, failed, strict=True)}
    assert {name: words in told[name] for name, (_, words) in _FAILURES.items()} == dict.fromkeys(_FAILURES, True), told
    assert sound["text"].endswith("Four.<|im_end|>\n")


def test_a_template_that_fails_on_everything_is_not_called_slow(sandbox: Callable[[str], TemplateSandbox]) -> None:
    answers = sandbox("{{ 1 // 0 }}").render([(_SOUND, None, None)])

    assert "ZeroDivisionError" in answers[0]["error"]


def test_a_child_that_dies_is_told_and_replaced(sandbox: Callable[[str], TemplateSandbox]) -> None:
    template = _IF_BAD.format("{% for i in range(90000) %}{{ 'x' * 12000 }}{% endfor %}")
    answers = sandbox(template).render([(_BAD, None, None), (_SOUND, None, None)])

    assert "memory" in answers[0]["error"]
    assert answers[1]["text"].endswith("Four.<|im_end|>\n")


def test_a_template_without_memory_for_most_rows_is_refused(sandbox: Callable[[str], TemplateSandbox]) -> None:
    template = "{% for i in range(90000) %}{{ 'x' * 12000 }}{% endfor %}"
    with pytest.raises(StudioError, match=r"cannot be used|does not come to an end"):
        sandbox(template).render([(_SOUND, None, None)] * 12)
