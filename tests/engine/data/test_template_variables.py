"""Variables of the template reach what is rendered, in training as in a chat and in an export."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.data.example import Example
from qlora_studio.core.export.model_card import CardFacts, model_card
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.checks import checks_of
from qlora_studio.engine.data.plan import DataPlan, prompting_of
from qlora_studio.engine.data.prepared import prepare_datasets
from qlora_studio.engine.data.tokenized_rows import RowPipeline
from qlora_studio.engine.gguf.ollama import template_shape
from qlora_studio.engine.model.generation import prompt_inputs
from qlora_studio.engine.templates.prompting import Prompting
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.templates.chat_templates import installed_templates, said, tokenizer_for

NOW = datetime(2026, 11, 23)
TALK = (said("user", "Why?"), said("assistant", "Because."))
DATED = (
    "{{ strftime_now('%d %b %Y') }} {{ tone | default('plain') }}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.mark.parametrize("name", ["glm4moe", "qwen3", "gptoss"])
def test_each_row_is_rendered_with_its_own_variables_over_those_of_the_run(name: str, tokenizer: Any) -> None:
    own = tokenizer_for(installed_templates()[name], tokenizer)
    run = {"enable_thinking": True, "reasoning_effort": "low"}
    rows: list[dict[str, Any]] = [{}, {"enable_thinking": False}, {"reasoning_effort": "high"}]
    with RowPipeline(own, loss_on="assistant", now=datetime.now(), variables=run) as pipeline:
        found = pipeline.rows([Example(TALK, variables=row or None) for row in rows])
    for row, tokens in zip(rows, found, strict=True):
        expected = own.apply_chat_template(list(TALK), tokenize=False, **{**run, **row})
        assert tokens.rendered.text.removesuffix("<|user|>") == expected  # which GLM's template leaves out


def test_a_chat_begins_as_training_did_with_variables_and_the_day_of_the_run(tokenizer: Any, tmp_path: Path) -> None:
    own = tokenizer_for(DATED, tokenizer)
    config = _config(tmp_path, template_variables={"tone": "warm"}, template_date="2026-05-01")
    data = prepare_datasets(config, own, RunFolder(tmp_path), JobContext(RunFolder(tmp_path)))
    row = data.training[0]["input_ids"]
    prompting = prompting_of(config, RunFolder(tmp_path))
    chat = prompt_inputs(own, [{"role": "user", "content": "Why?"}], prompting)["input_ids"][0].tolist()
    assert own.decode(row).startswith("01 May 2026 warm")
    assert row[: len(chat)] == chat


def test_the_rows_are_prepared_anew_for_other_variables_and_another_date(tokenizer: Any, tmp_path: Path) -> None:
    own = tokenizer_for(DATED, tokenizer)
    configs = [
        _config(tmp_path),
        _config(tmp_path, template_variables={"tone": "warm"}),
        _config(tmp_path, template_date="2026-05-01"),
    ]
    data = prepare_datasets(configs[0], own, RunFolder(tmp_path), JobContext(RunFolder(tmp_path)))
    keys = {DataPlan.of(config, data.plan.opened, own, NOW).key for config in configs}
    assert len(keys) == 3


def test_a_variable_that_the_template_does_not_read_is_told(tokenizer: Any, tmp_path: Path) -> None:
    own = tokenizer_for(DATED, tokenizer)
    for variables, passed in (({"tone": "warm"}, True), ({"tune": "warm"}, False)):
        config = _config(tmp_path, template_variables=variables)
        data = prepare_datasets(config, own, RunFolder(tmp_path), JobContext(RunFolder(tmp_path)))
        checks = {check.name: check for check in checks_of(data, config, None, with_trainer=False)}
        check = checks["template_variables_read"]
        assert check.passed is passed
        assert next(iter(variables)) in check.message
        assert check.level == ("ok" if passed else "warning")


def test_an_ollama_template_has_the_runs_variables_in_it(tokenizer: Any) -> None:
    own = tokenizer_for(DATED.replace("assistant\n{% endif", "assistant\n{{ tone }}: {% endif"), tokenizer)
    shape = template_shape(own, Prompting({"tone": "warm"}, NOW))
    assert shape is not None
    assert shape.preamble.startswith("23 Nov 2026 warm")
    assert shape.opening.endswith("warm: ")


def test_the_card_says_what_to_hand_to_the_template() -> None:
    config = RunConfig().with_value("data.template_variables", {"enable_thinking": False})
    card = model_card(config, CardFacts(title="x"), has_curve=False)
    assert "enable_thinking=False)" in card
    assert """--chat-template-kwargs '{"enable_thinking": false}'""" in card
    assert "chat_template_kwargs" not in model_card(RunConfig(), CardFacts(title="x"), has_curve=False)


def _config(folder: Path, **data: Any) -> RunConfig:
    file = folder / "rows.jsonl"
    rows = [{"messages": [*TALK[:1], {**TALK[1], "content": f"Because of {n}."}]} for n in range(4)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return from_mapping({"data": {"path": str(file), "evaluation_share": 0.0, **data}})
