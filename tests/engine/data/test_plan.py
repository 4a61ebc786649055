"""The key of prepared rows is a hash of all that decides them: it forgets nothing, and knows nothing besides."""

import copy
import json
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest
from tokenizers import AddedToken

from qlora_studio.core.config.run_config import DatasetSource, RunConfig
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.data.opened import open_data
from qlora_studio.engine.data.plan import DataPlan
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.storage.runs.run_folder import RunFolder

DAY = datetime(2026, 11, 23)
OTHER_SOURCE: dict[str, Any] = {
    "subset": "other",
    "split": "other",
    "revision": "other",
    "weight": 0.5,
    "format": "alpaca",
    "mapping": {"text": "other"},
    "encoding": "cp1252",
}


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return tokenizer_of(tiny_llama)


def write(path: Path, *answers: str) -> str:
    turns = [[{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}] for answer in answers]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns), "utf-8")
    return str(path)


def plan_of(tokenizer: Any, path: Path, *settings: str, day: datetime = DAY, **data: Any) -> DataPlan:
    config = from_mapping({"data": {"path": write(path, "Yes.", "No."), **data}}, settings)
    opened = open_data(config.data, RunFolder(path.parent / "run"), QUIET)
    return DataPlan.of(config, opened, tokenizer, day)


def test_another_value_in_any_field_of_the_plan_is_another_key(tokenizer: Any, tmp_path: Path) -> None:
    plan = plan_of(tokenizer, tmp_path / "a.jsonl")
    other_tokenizer = copy.deepcopy(tokenizer)
    other_tokenizer.add_tokens(["<other>"])
    others = {
        "opened": plan_of(tokenizer, tmp_path / "b.jsonl").opened,
        "tokenizer": other_tokenizer,
        "day": datetime(2026, 11, 24),
        "chat_template": "alpaca",
        "variables": {"enable_thinking": False},
        "loss_on": "all",
        "reasoning": "keep",
        "same_role": "join",
        "max_length": plan.max_length + 1,
        "duplicates": "drop_near",
        "evaluation_share": 0.2,
        "seed": plan.seed + 1,
        "exclude": ("0123456789abcdef",),
    }
    assert set(others) == {field.name for field in fields(DataPlan)}, "say here what another value of a new field is"
    keys = [replace(plan, **{name: value}).key for name, value in others.items()]
    assert len({plan.key, *keys}) == len(others) + 1


def test_a_field_of_a_kind_that_a_key_cannot_tell_is_an_error(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot be told of set"):
        _ = replace(plan_of(tokenizer, tmp_path / "a.jsonl"), max_length=cast(int, {1})).key


def test_another_way_to_read_a_dataset_is_another_key_and_another_place_is_not(tokenizer: Any, tmp_path: Path) -> None:
    key = plan_of(tokenizer, tmp_path / "a.jsonl").key
    assert plan_of(tokenizer, tmp_path / "elsewhere" / "a.jsonl").key == key
    assert set(OTHER_SOURCE) == set(DatasetSource.model_fields) - {"path"}, "say here what another value is"
    local = {name: value for name, value in OTHER_SOURCE.items() if name not in ("subset", "split", "revision")}
    keys = [plan_of(tokenizer, tmp_path / "a.jsonl", **{name: value}).key for name, value in local.items()]
    plan = plan_of(tokenizer, tmp_path / "a.jsonl")
    (reader,) = plan.opened.training.readers
    for name in set(OTHER_SOURCE) - set(local):
        reader.source = reader.source.model_copy(update={name: OTHER_SOURCE[name]})
        keys.append(replace(plan).key)
    assert len({key, *keys}) == len(OTHER_SOURCE) + 1


def test_other_bytes_more_datasets_and_held_out_ones_are_other_keys(tokenizer: Any, tmp_path: Path) -> None:
    path, held = tmp_path / "a.jsonl", write(tmp_path / "held.jsonl", "Perhaps.")
    plan = plan_of(tokenizer, path)
    more = [plan_of(tokenizer, path, more=[{"path": held}]), plan_of(tokenizer, path, evaluation_path=held)]
    more.append(plan_of(tokenizer, path, more=[{"path": held, "weight": 2}]))
    keys = [each.key for each in (plan, *more)]
    write(path, "Yes.", "Never.")
    assert len({*keys, replace(plan).key}) == 5


def test_what_a_tokenizer_writes_is_in_the_key(tokenizer: Any, tmp_path: Path) -> None:
    tokenizers = {name: copy.deepcopy(tokenizer) for name in ("template", "special", "added", "split")}
    tokenizers["template"].chat_template += " "
    tokenizers["special"].eos_token = tokenizer.unk_token or "<|im_start|>"
    tokenizers["added"].add_tokens([AddedToken("<cut>", lstrip=True)])
    tokenizers["split"].split_special_tokens = True
    keys = [plan_of(each, tmp_path / "a.jsonl").key for each in (tokenizer, *tokenizers.values())]
    assert len(set(keys)) == 5


def test_the_day_decides_the_rows_of_a_template_that_writes_it_and_of_no_other(tokenizer: Any, tmp_path: Path) -> None:
    dated = copy.deepcopy(tokenizer)
    dated.chat_template = "{{ strftime_now('%Y-%m-%d') }}" + tokenizer.chat_template
    plans = [
        plan_of(each, tmp_path / "a.jsonl", day=day) for each in (tokenizer, dated) for day in (DAY, datetime.now())
    ]
    assert [len({plan.key for plan in pair}) for pair in (plans[:2], plans[2:])] == [1, 2]
    for plan, wanted in ((plans[2], "2026-11-23"), (plans[0], "<|im_start|>")):
        with plan.pipeline() as pipeline:
            example = next(plan.opened.training.rows()).example
            assert example is not None
            (row,) = pipeline.rows([example])
        assert row.rendered.text.startswith(wanted)


@pytest.mark.parametrize("setting", ["data.bad_rows=stop", "training.packing=true", "training.seed=7", "lora.rank=8"])
def test_settings_that_decide_no_row_share_one_key(setting: str, tokenizer: Any, tmp_path: Path) -> None:
    assert setting.split("=")[0].split(".")[0] in RunConfig.model_fields
    assert plan_of(tokenizer, tmp_path / "a.jsonl", setting).key == plan_of(tokenizer, tmp_path / "a.jsonl").key
