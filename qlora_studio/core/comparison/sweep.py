"""A run again over a few values: every combination is a run of its own, named by the values that are its own."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from qlora_studio.core.config.run_config import RunConfig, all_settings
from qlora_studio.core.config.run_config_text import from_mapping
from qlora_studio.core.config.setting import SettingInfo
from qlora_studio.core.errors import InvalidRunConfig, Problem
from qlora_studio.core.words import say

MOST_RUNS = 100
_LONGEST_NAME = 80  # letters, as the form takes them
_LISTS = (list, dict)  # whose own commas would be taken for several values


@dataclass(frozen=True)
class Variation:
    """A setting and the values that it is to have, as they are written."""

    path: str
    values: tuple[str, ...]


def sweepable_settings() -> tuple[SettingInfo, ...]:
    """Return the settings that can be varied: those that are one value each."""
    return tuple(info for info in all_settings() if info.kind not in _LISTS)


def variation(text: str) -> Variation:
    """Return what `section.field=value,value` says. Raises InvalidRunConfig."""
    path, sign, values = text.partition("=")
    parts = tuple(dict.fromkeys(part.strip() for part in values.split(",") if part.strip()))
    if not sign or not parts:
        words = f'Write it as section.field=value,value, not "{text}".'
        raise InvalidRunConfig((Problem(path.strip(), words),))
    return Variation(path.strip(), parts)


def swept(config: RunConfig, variations: Sequence[Variation]) -> tuple[RunConfig, ...]:
    """Return a run config for every combination of values. Raises InvalidRunConfig with every problem."""
    problems = [*_wrong_paths(variations), *_too_many(variations)]
    if problems:
        raise InvalidRunConfig(tuple(problems))
    problems = [problem for item in variations for value in item.values for problem in _wrong(config, item.path, value)]
    if problems:
        raise InvalidRunConfig(tuple(dict.fromkeys(problems)))
    paths = [item.path for item in variations]
    pairs = [tuple(zip(paths, values, strict=True)) for values in product(*(item.values for item in variations))]
    found = {made.name: made for made in (_with(config, chosen) for chosen in pairs)}  # 1e-4 and 0.0001 are one value
    return tuple(found.values())


def _wrong_paths(variations: Iterable[Variation]) -> list[Problem]:
    lists = {info.path for info in all_settings()} - {info.path for info in sweepable_settings()}
    seen: set[str] = set()
    problems = []
    for item in variations:
        if item.path in lists:
            problems.append(Problem(item.path, say("is a list or a table, and cannot be varied.")))
        elif item.path == "name":
            problems.append(Problem(item.path, say("is made of the values, and cannot be varied.")))
        elif item.path in seen:
            problems.append(Problem(item.path, say("is varied twice; give all its values at once.")))
        seen.add(item.path)
    return problems


def _too_many(variations: Sequence[Variation]) -> list[Problem]:
    count = 1
    for item in variations:
        count *= len(item.values)
    words = f"These are {count:,} runs; at most {MOST_RUNS} can be made at once."
    return [Problem("", words)] if count > MOST_RUNS else []


def _wrong(config: RunConfig, path: str, value: str) -> tuple[Problem, ...]:
    try:
        from_mapping(config.model_dump(), [f"{path}={value}"])
    except InvalidRunConfig as error:
        return tuple(error.problems)
    return ()


def _with(config: RunConfig, chosen: Sequence[tuple[str, str]]) -> RunConfig:
    found = from_mapping(config.model_dump(), [f"{path}={value}" for path, value in chosen])
    values = {path: found.value(path) for path, _ in chosen}
    return found.model_copy(update={"name": _name(config.name, values)})


def _name(name: str, values: dict[str, Any]) -> str:
    """Return `my-run rank=8 learning_rate=2e-4`; what an earlier sweep called by these settings gives way."""
    infos = {info.path: info for info in all_settings()}
    for path in values:
        name = re.sub(rf" {re.escape(_word(path))}=\S+", "", name)
    own = " ".join(f"{_word(path)}={_short(infos[path], value)}" for path, value in values.items())
    return f"{name[: max(1, _LONGEST_NAME - len(own) - 1)].rstrip()} {own}"


def _word(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def _short(info: SettingInfo, value: Any) -> str:
    text = str(value) if info.choices else info.plain_text(value)
    return text.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1].replace(" ", "-") or "none"
