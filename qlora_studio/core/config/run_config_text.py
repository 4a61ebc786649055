"""The run config as text: TOML in and out, `--set section.field=value`, and every problem at once, in words."""

import difflib
import json
from collections.abc import Iterable
from typing import Any

import tomli_w
from pydantic import ValidationError

from qlora_studio.core.config.run_config import RUN_CONFIG_VERSION, SECTIONS, RunConfig, all_settings
from qlora_studio.core.errors import InvalidRunConfig, NewerVersion, Problem
from qlora_studio.core.foreign_text import Unreadable, toml_table
from qlora_studio.core.words import say

_MOST_PROBLEMS = 50
_MOST_LETTERS = 200  # of a value that is wrong
_WORDS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "literal_error": "must be one of {expected}",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a section with settings",
}


def to_toml(config: RunConfig) -> str:
    """Return the complete `run.toml`, defaults included."""
    return tomli_w.dumps(config.model_dump())


def from_toml(text: str) -> RunConfig:
    """Return the config of a `run.toml`. Raises InvalidRunConfig with every problem."""
    try:
        data = toml_table(text.encode("utf-8", "surrogatepass"))
    except Unreadable as error:
        raise InvalidRunConfig((Problem("", say("This cannot be read: {error}.", error=error)),)) from error
    return from_mapping(data)


def from_mapping(data: dict[str, Any], overrides: Iterable[str] = ()) -> RunConfig:
    """Return the config of nested dictionaries, after `section.field=value` overrides. Raises InvalidRunConfig."""
    if isinstance(data.get("version", 1), int) and data.get("version", 1) > RUN_CONFIG_VERSION:
        raise NewerVersion
    merged = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    problems = [problem for text in overrides if (problem := _apply_override(merged, text))]
    try:
        config = RunConfig.model_validate(merged)
    except ValidationError as error:
        problems += [_in_words(item) for item in error.errors()[:_MOST_PROBLEMS]]
    if problems:
        raise InvalidRunConfig(tuple(problems))
    return config


def problems_before_start(config: RunConfig) -> tuple[Problem, ...]:
    """Return what still keeps a valid config from being started."""
    found = []
    if not config.model.source:
        found.append(Problem("model.source", say("Choose a base model.")))
    if not config.data.path:
        found.append(Problem("data.path", say("Choose a dataset.")))
    if not config.name.strip():
        found.append(Problem("name", say("Give the run a name.")))
    if config.quantization.method == "none" and config.quantization.compute_dtype == "float32":
        found.append(
            Problem("quantization.compute_dtype", say("A 16-bit base cannot be computed in fp32; choose Auto."))
        )
    return tuple(found)


def _apply_override(data: dict[str, Any], text: str) -> Problem | None:
    path, equals, value = text.partition("=")
    section, dot, name = path.strip().partition(".")
    if not equals:
        return Problem(path, say('Write it as section.field=value, not "{text}".', text=text))
    if not dot:
        if section != "name":
            return Problem(section, _unknown(section))
        data["name"] = value
        return None
    target = data.setdefault(section, {})
    if not isinstance(target, dict):
        return Problem(section, say("must be a section with settings"))
    target[name] = _parsed(path.strip(), value)
    return None


def _parsed(path: str, value: str) -> Any:
    """Lists and tables may be written as JSON, or a list as words separated by commas; pydantic converts the rest."""
    kind = next((info.kind for info in all_settings() if info.path == path), str)
    if kind not in (list, dict):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return [word.strip() for word in value.split(",") if word.strip()] if kind is list else value


def _in_words(item: Any) -> Problem:
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return Problem(path, _unknown(path))
    return Problem(path, say("{words}, not {input}", words=rule_of(item), input=repr(item["input"])[:_MOST_LETTERS]))


def rule_of(item: Any) -> str:
    """Return what an error of pydantic's says that a value must be, as the end of a sentence."""
    template = _WORDS.get(item["type"])
    return template.format(**item.get("ctx", {})) if template else str(item["msg"])


def _unknown(path: str) -> str:
    known = ["name", *SECTIONS, *(info.path for info in all_settings())]
    close = difflib.get_close_matches(path, known, n=1)
    return f"There is no such setting{f'; did you mean {close[0]}?' if close else '.'}"
