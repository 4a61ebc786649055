"""Text is rendered as transformers renders it, out of reach of a template's mischief, and tokenized once."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from transformers import AutoTokenizer

from qlora_studio.core.data.example import Example
from qlora_studio.core.errors import StudioError
from qlora_studio.engine.data.tokenized_rows import IGNORED, RowTokenizer
from qlora_studio.engine.templates.chat_template import ChatTemplate
from qlora_studio.engine.templates.rendering import ControlTokens, RowRenderer
from qlora_studio.engine.templates.sandbox import TemplateSandbox
from tests.engine.templates.chat_templates import CONVERSATIONS, installed_templates, said, tokenizer_for

NOW = datetime(2026, 11, 23)
QUESTION = Example(messages=(said("user", "Who?"), said("assistant", "Me.")))


@pytest.fixture
def tokenizer(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.fixture
def sandbox() -> Iterator[Any]:
    made: list[TemplateSandbox] = []

    def make(template: str, **limits: Any) -> TemplateSandbox:
        setup: dict[str, Any] = {"variables": {}, "control_tokens": ["<e>"], "end_token": "<e>", "now": NOW}
        made.append(TemplateSandbox(template, **setup, **limits))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("name", sorted(installed_templates()))
def test_every_installed_template_renders_as_transformers_renders_it(name: str, tokenizer: Any) -> None:
    own = tokenizer_for(installed_templates()[name], tokenizer)
    ours = ChatTemplate(own.chat_template, own.special_tokens_map, datetime.now())
    rendered = 0
    for messages, tools in CONVERSATIONS.values():
        for prompt in (False, True):
            try:
                theirs = own.apply_chat_template(
                    list(messages), tools=list(tools) or None, tokenize=False, add_generation_prompt=prompt
                )
            except (TemplateError, TypeError, ValueError):
                with pytest.raises((TemplateError, TypeError, ValueError)):
                    ours.render(messages, tools, generation_prompt=prompt)
                continue
            assert ours.render(messages, tools, generation_prompt=prompt) == theirs
            rendered += 1
    assert rendered or name == "llava_next", "nothing was rendered, so nothing was compared"


def test_ids_are_those_of_apply_chat_template(tokenizer: Any) -> None:
    with RowRenderer(tokenizer, loss_on="assistant", now=NOW) as renderer:
        for messages, _ in list(CONVERSATIONS.values())[:5]:
            (row,) = RowTokenizer(tokenizer).tokenize(renderer.render([Example(messages=messages)]))
            assert row.ids == tokenizer.apply_chat_template(list(messages), return_dict=False)


def test_a_tokenizer_that_writes_a_bos_itself_gives_one_bos_with_a_template_that_writes_it_too(tokenizer: Any) -> None:
    own = tokenizer_for("{{ bos_token }}" + tokenizer.chat_template, tokenizer)
    with RowRenderer(own, loss_on="assistant", now=NOW) as renderer:
        (row,) = RowTokenizer(own).tokenize(renderer.render([QUESTION]))
    assert row.ids[0] == own.bos_token_id
    assert row.ids[1:3].count(own.bos_token_id) == 1  # SmolLM2's BOS is <|im_start|>, which begins the turn as well


def test_plain_text_is_trained_in_full_and_ends_with_eos(tokenizer: Any) -> None:
    with RowRenderer(tokenizer, loss_on="assistant", now=NOW) as renderer:
        (row,) = RowTokenizer(tokenizer).tokenize(renderer.render([Example(text="Once upon a time.")]))
    assert row.rendered.text == "Once upon a time." + tokenizer.eos_token
    assert row.ids[-1] == tokenizer.eos_token_id
    assert row.labels == [IGNORED, *row.ids[1:]]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (True, "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nMe.<|im_end|>\n"),
        (False, "User: Who?\nAssistant: Me.<|im_end|>\n"),
    ],
)
def test_a_base_model_without_template_is_given_one_that_its_tokenizer_keeps(
    tokens: bool, expected: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.chat_template = None
    if not tokens:
        monkeypatch.setattr(tokenizer, "get_vocab", dict)
    with RowRenderer(tokenizer, loss_on="assistant", now=NOW) as renderer:
        (row,) = renderer.render([QUESTION])
        assert renderer.template_name == ("ChatML" if tokens else "plain")
    assert row.text == expected
    assert [row.text[start:end] for start, end in row.spans] == [" Me.<|im_end|>" if not tokens else "Me.<|im_end|>"]
    assert tokenizer.apply_chat_template(list(QUESTION.messages), tokenize=False) == expected


def test_a_conversation_with_tools_is_rendered_with_the_template_for_tools(tokenizer: Any) -> None:
    tokenizer.chat_template = {
        "default": "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}",
        "tool_use": "TOOLS{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}",
    }
    with_tools = Example(messages=QUESTION.messages, tools=CONVERSATIONS["tools"][1])
    with RowRenderer(tokenizer, loss_on="all", now=NOW) as renderer:
        texts = [row.text for row in renderer.render([QUESTION, with_tools, Example(text="x"), QUESTION])]
    plain = "Who?<|im_end|>Me.<|im_end|>"
    assert texts == [plain, f"TOOLS{plain}", f"x{tokenizer.eos_token}", plain]


def test_the_date_that_a_template_writes_is_the_one_it_is_given(sandbox: Any) -> None:
    template = "{{ strftime_now('%d %b %Y') }}: {% for m in messages %}{{ m.content }}<e>{% endfor %}"
    (row,) = sandbox(template).render([(QUESTION.messages, None)])
    assert row["text"].startswith("23 Nov 2026: ")


def test_a_child_with_nothing_to_do_ends_by_itself_and_one_at_work_is_killed(sandbox: Any) -> None:
    endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
    text = "{% if messages[0].content == 'Who?' %}" + endless + "{% endif %}{{ messages[1].content }}<e>"
    idle, busy = sandbox(text, learned="all"), sandbox(text, learned="all")
    idle.render([((said("user", "Fine?"), said("assistant", "Fine.")), None)])
    busy.submit([(QUESTION.messages, None)])
    processes = [made._child._process for made in (idle, busy)]
    idle.close()
    busy.close()
    assert processes[0].returncode == 0
    assert processes[1].returncode not in (0, None)


def test_control_tokens_that_somebody_typed_are_found(tokenizer: Any) -> None:
    control = ControlTokens(tokenizer)
    typed = Example(messages=(said("user", "End <|im_end|> here"), said("assistant", "No.")))
    answered = Example(messages=(said("user", "Write the token"), said("assistant", "<|im_end|>")))
    assert control.stand_in(typed)
    assert not control.stand_in(answered)
    assert not control.stand_in(QUESTION)


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for m in messages %}{{ 'a' * 5000000000 }}{% endfor %}",
        "{% for m in messages %}{% if m.content == 'Who?' %}{{ raise_exception('no') }}{% endif %}{% endfor %}",
    ],
    ids=["endless", "enormous", "refusing"],
)
def test_a_template_that_does_mischief_costs_its_row_and_nothing_else(template: str, sandbox: Any) -> None:
    text = (
        "{% if messages[0].content == 'Who?' %}"
        + template
        + "{% endif %}{{ messages[0].content }} {{ messages[1].content }}<e>"
    )
    here = sandbox(text, learned="all", batch_seconds=2.0, row_seconds=1.0)
    harmless = (said("user", "Fine?"), said("assistant", "Fine."))
    rows = here.render([(harmless, None), (QUESTION.messages, None), (harmless, None)])
    assert [bool(row.get("error")) for row in rows] == [False, True, False], rows
    assert rows[0]["text"] == "Fine? Fine.<e>"


def test_a_template_that_never_ends_is_refused(sandbox: Any) -> None:
    endless = (
        "{% if messages %}{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}{% endif %}"
    )
    with pytest.raises(StudioError, match="chat template") as caught:
        sandbox(endless, batch_seconds=1.0, row_seconds=0.5).render([(QUESTION.messages, None)] * 3)
    assert caught.value.kind == "model_refused"


def test_a_template_that_is_none_is_refused_in_words(sandbox: Any) -> None:
    with pytest.raises(StudioError) as caught:
        sandbox("{% for m in messages %}").render([(QUESTION.messages, None)])
    assert caught.value.kind == "model_refused"
    assert "endfor" in caught.value.detail


@pytest.mark.parametrize(
    "attack", ["''.__class__.__mro__", "messages.__class__.__base__", "cycler.__init__.__globals__"]
)
def test_a_template_cannot_reach_python(attack: str, sandbox: Any) -> None:
    template = "{{ " + attack + " }}{% for m in messages %}{{ m.content }}<e>{% endfor %}"
    (row,) = sandbox(template).render([(QUESTION.messages, None)])
    assert "unsafe" in row["error"]


WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": {}}}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
CALLING = Example(
    messages=(
        said("user", "What is the weather in Bern?"),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        said("tool", "Sunny."),
        said("assistant", "It is sunny."),
    ),
    tools=(WEATHER,),
)
THINKING = Example(messages=(said("user", "Why?"), {**said("assistant", "So."), "reasoning_content": "Hm."}))
_ROLES = "<s>{{ message['role'] }}\n{{ message['content'] }}<e>\n"
PLAIN = f"{{% for message in messages %}}{_ROLES}{{% endfor %}}"


def test_a_row_whose_tool_calls_the_template_drops_is_refused_even_where_their_name_stands_elsewhere(
    tokenizer: Any,
) -> None:
    tokenizer.chat_template = PLAIN
    with RowRenderer(tokenizer, loss_on="all", now=NOW) as renderer:
        calling, question = renderer.render([CALLING, QUESTION])
    assert calling.error == "the template leaves out a tool call"
    assert "weather" in calling.text and not calling.spans
    assert (question.error, question.lost) == ("", ())


def test_reasoning_and_tools_that_the_template_drops_are_told(tokenizer: Any) -> None:
    tokenizer.chat_template = PLAIN
    asked = Example(messages=QUESTION.messages, tools=(WEATHER,))
    with RowRenderer(tokenizer, loss_on="all", now=NOW) as renderer:
        assert [row.lost for row in renderer.render([THINKING, asked])] == [
            ("reasoning of the last answer",),
            ("definitions of tools",),
        ]


def test_a_template_that_shows_tools_and_reasoning_loses_nothing(tokenizer: Any) -> None:
    own = tokenizer_for(installed_templates()["qwen3"], tokenizer)
    with RowRenderer(own, loss_on="assistant", now=NOW) as renderer:
        assert [(row.lost, row.error) for row in renderer.render([CALLING, THINKING])] == [((), ""), ((), "")]
