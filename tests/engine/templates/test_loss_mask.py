"""What is trained is what the model has to say, with its end-of-turn token; exactly, or not at all and by name."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.example import Example
from qlora_studio.core.data.row_verdict import RowVerdict
from qlora_studio.engine.data.preview import RowPreviewer
from qlora_studio.engine.data.tokenized_rows import IGNORED, RowPipeline, RowTokenizer
from qlora_studio.engine.templates.chat_template import ChatTemplate
from qlora_studio.engine.templates.loss_mask import AnswerFinder
from qlora_studio.engine.templates.rendering import RowRenderer, control_tokens
from qlora_studio.storage.datasets.reader import ReadRow
from tests.engine.templates.chat_templates import CONVERSATIONS, installed_templates, said, tokenizer_for

NOW = datetime(2026, 11, 23)
# These templates know no tools or drop the call. Each says so, of the conversation with tools alone.
WITHOUT_TOOLS = {
    "cohere", "cohere2", "deepseek_r1_distill", "deepseekv3", "gemma", "gemma3", "idefics3", "llama3", "llava_next",
    "phi3", "phi3_5", "qwen2_5_vl", "smolvlm", "processing_smolvlm", "processing_llama4", "processing_qwen2_audio",
    "lfm2",
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.mark.parametrize("name", sorted(installed_templates()))
def test_with_every_installed_template_the_answers_are_trained_and_nothing_else(name: str, tokenizer: Any) -> None:
    own = tokenizer_for(installed_templates()[name], tokenizer)
    control = tuple(control_tokens(own))
    with RowRenderer(own, loss_on="assistant", now=NOW) as renderer:
        examples = [Example(messages=messages, tools=tools) for messages, tools in CONVERSATIONS.values()]
        rows = RowTokenizer(own).tokenize(renderer.render(examples))
    for (what, (messages, _)), row in zip(CONVERSATIONS.items(), rows, strict=True):
        if row.rendered.error:
            assert what == "tools" and name in WITHOUT_TOOLS, f"{what}: {row.rendered.error}"
            assert row.rendered.error.startswith("the template")
            continue
        answers = [message for message in messages if message["role"] == "assistant"]
        spans = [row.rendered.text[start:end] for start, end in row.rendered.spans]
        assert len(spans) == len(answers), what
        assert row.rendered.ended, what
        for span, message in zip(spans, answers, strict=True):
            assert message["content"].rpartition("</think>")[2].strip() in span
            assert span.endswith(control), f"{what}: no end-of-turn token in {span!r}"
        trained = "".join(spans)
        for message in messages:
            if message["role"] != "assistant":
                assert message["content"] not in trained, what
        _assert_labels_are_the_spans(row, own)


def _assert_labels_are_the_spans(row: Any, tokenizer: Any) -> None:
    """The trained tokens spell the trained spans, and the last of them is a control token.

    A token may reach over the start of a span by white space: the template's "\\n" and the answer's can be one token.
    """
    ids = [label for label in row.labels if label != IGNORED]
    spans = "".join(row.rendered.text[start:end] for start, end in row.rendered.spans)
    assert tokenizer.decode(ids).split() == spans.split()
    assert tokenizer.convert_ids_to_tokens(ids[-1]) in control_tokens(tokenizer)
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.ids, strict=True))


@pytest.mark.parametrize("name", sorted(installed_templates()))
def test_the_preview_shows_what_is_trained_with_every_installed_template(name: str, tokenizer: Any) -> None:
    own = tokenizer_for(installed_templates()[name], tokenizer)
    rows = [
        ReadRow(number, number + 1, 0, RowVerdict.OK, "", Example(messages=messages, tools=tools), "")
        for number, (messages, tools) in enumerate(CONVERSATIONS.values())
    ]
    with RowPipeline(own, loss_on="assistant", now=NOW) as pipeline:
        previews = RowPreviewer(pipeline, own, 40).previews(rows, ["training"] * len(rows))
        examples = [row.example for row in rows if row.example is not None]
        batches = pipeline.stream([("first", examples[:3]), ("others", examples[3:])])
        trained = [row for _, batch in batches for row in batch]
    for preview, row in zip(previews, trained, strict=True):
        kept = [piece for piece in preview.tokens if not piece.cut]
        assert [piece.id for piece in kept] == row.ids[:40]
        assert [piece.id if piece.trained else IGNORED for piece in kept] == row.labels[:40]
        assert "".join(piece.string for piece in preview.tokens) == preview.text
        assert preview.problem or preview.trained


def test_templates_that_rewrite_earlier_turns_are_masked_by_their_contents(tokenizer: Any) -> None:
    own = tokenizer_for(installed_templates()["qwen3"], tokenizer)
    with RowRenderer(own, loss_on="assistant", now=NOW) as renderer:
        (row,) = renderer.render([Example(messages=CONVERSATIONS["two turns"][0])])
    assert row.how == "contents"


def test_a_template_that_hides_its_answers_is_named_and_trains_only_in_full(tokenizer: Any) -> None:
    hiding = "{% for m in messages %}{{ m.content | replace(' ', '  ') | upper | lower }}{% endfor %}"
    own = tokenizer_for(hiding, tokenizer)
    conversation = Example(messages=(said("user", "why not"), said("assistant", "because")))
    with RowRenderer(own, loss_on="assistant", now=NOW) as renderer:
        (row,) = renderer.render([conversation])
    assert row.error == "the template leaves out what the user says"
    shuffled = "{% for m in messages | reverse %}{{ m.content }}{% endfor %}{{ messages | length * 7 }}"
    own = tokenizer_for(shuffled, tokenizer)
    with RowRenderer(own, loss_on="all", now=NOW) as renderer:
        (row,) = renderer.render([conversation])
    assert (row.how, row.error) == ("all", "")
    twice = "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"
    own = tokenizer_for(twice, tokenizer)
    own.chat_template = twice + "{{ '!' if add_generation_prompt else '?' }}"
    with RowRenderer(own, loss_on="assistant", now=NOW) as renderer:
        (row,) = renderer.render([Example(messages=(*conversation.messages, *conversation.messages))])
    assert row.hidden, row


def test_an_answer_that_holds_the_header_of_a_turn_does_not_shift_the_mask(tokenizer: Any) -> None:
    tricky = "See: <|im_start|>assistant\nfake<|im_end|>\n and on."
    messages = (said("user", tricky), said("assistant", tricky), said("user", "And?"), said("assistant", "Done."))
    for name in ("qwen2_5", "qwen3", "qwen3_5_think"):
        own = tokenizer_for(installed_templates()[name], tokenizer)
        with RowRenderer(own, loss_on="assistant", now=NOW) as renderer:
            (row,) = renderer.render([Example(messages=messages)])
        spans = [row.text[start:end] for start, end in row.spans]
        assert len(spans) == 2 and spans[0].endswith(tricky + "<|im_end|>") and "Done." in spans[1], (name, spans)


_WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Co"]), max_size=40).filter(str.strip)


@pytest.mark.parametrize("name", ["chatml", "qwen3", "llama3_1", "gemma", "phi3", "deepseekv3", "gptoss"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(_WORDS, _WORDS), min_size=1, max_size=3))
def test_each_answer_is_trained_whole_whatever_was_said(
    name: str, turns: list[tuple[str, str]], tokenizer: Any
) -> None:
    finder = _finder(name, tokenizer)
    messages = [said(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]
    try:
        found = finder.answers(messages)
    except ValueError as error:  # said by name; never a wrong mask
        assert "template" in str(error)
        return
    assert len(found.spans) == len(turns)
    for (start, end), (_, answer) in zip(found.spans, turns, strict=True):
        span = found.text[start:end]
        assert answer.strip() in span
        assert len(span) <= len(answer) + 60


_FINDERS: dict[str, AnswerFinder] = {}


def _finder(name: str, tokenizer: Any) -> AnswerFinder:
    if name not in _FINDERS:
        source = tokenizer.chat_template if name == "chatml" else installed_templates()[name]
        _FINDERS[name] = _new_finder(source, tokenizer)
    return _FINDERS[name]


def _new_finder(source: str, tokenizer: Any) -> AnswerFinder:
    own = tokenizer_for(source, tokenizer)
    return AnswerFinder(ChatTemplate(source, own.special_tokens_map, NOW), control_tokens(own), own.eos_token)


def test_loss_on_all_trains_everything_but_the_first_token(tokenizer: Any) -> None:
    assert RunConfig().training.loss_on == "assistant"
    with RowRenderer(tokenizer, loss_on="all", now=NOW) as renderer:
        (row,) = RowTokenizer(tokenizer).tokenize(renderer.render([Example(messages=CONVERSATIONS["two turns"][0])]))
    assert row.labels == [IGNORED, *row.ids[1:]]
