"""Makes entries of resources/models.toml: `python -m tests.engine.catalogue_entries --source WHERE --licence L FILE …`.

A file is a model's `config.json`, named `owner--name_config.json`; WHERE is the public place that it was read from. An
entry is printed where the count that follows from our shapes is, to the unit, that of the model that transformers
builds on meta tensors; of every other file the reason is told on stderr. What no config says, the licence, whether the
model is gated and its template, is given by options and holds for all files of a call.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from qlora_studio.core.errors import StudioError
from qlora_studio.core.model.config import text_config
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.model.stored_quantization import stored_quantization
from qlora_studio.storage.resources import resource


def main() -> int:
    """Print the entries."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    for name in ("source", "licence"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--gated", action="store_true")
    parser.add_argument("--template", default="")
    told = parser.parse_args()
    for file in told.files:
        name = file.name.removesuffix("_config.json").replace("--", "/", 1)
        config = json.loads(file.read_text("utf-8"))
        if why := reason_against(config):
            print(f"{name} is left out: {why}", file=sys.stderr)
        else:
            print(entry(name, config, told.licence, told.template, told.source, gated=told.gated))
    return 0


def reason_against(config: Mapping[str, Any]) -> str:
    """Return why a model cannot be in the catalogue, or nothing."""
    if stored := stored_quantization(config):
        return f"its weights are stored as {stored}"
    try:
        shape = shape_from_config(config)
    except StudioError as error:
        return error.message
    if not shape.exact:
        return f"the family {shape.family} is not counted exactly"
    counted = built_parameters(kept_config(config))
    return "" if counted == shape.parameters else f"{shape.parameters:,} by its shape, {counted:,} as built"


def built_parameters(config: Mapping[str, Any]) -> int:
    """Return the parameters of the model that transformers builds from a config, without memory for one."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.bfloat16)
    return sum(parameter.numel() for parameter in model.parameters())


def kept_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the catalogue keeps of a config: the keys that any of its entries has."""
    text = text_config(config)
    models = tomllib.loads(resource("models.toml").read_text("utf-8"))["model"]
    keys = dict.fromkeys(key for model in models for key in model["config"])
    return {key: text[key] for key in keys if text.get(key) is not None}


def entry(name: str, config: Mapping[str, Any], licence: str, template: str, source: str, *, gated: bool) -> str:
    """Return the entry of a model as TOML."""
    facts: dict[str, Any] = {"id": name, "title": name.rsplit("/", 1)[-1].replace("-", " "), "licence": licence}
    facts |= {"gated": gated, "template": template, "parameters": shape_from_config(config).parameters}
    facts["source"] = source
    lines = ["[[model]]", *_lines(facts), "[model.config]", *_lines(kept_config(config))]
    return "\n".join(lines) + "\n"


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 100_000:
        return f"{value:_}"
    return json.dumps(value)


if __name__ == "__main__":
    sys.exit(main())
