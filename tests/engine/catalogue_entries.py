"""Renews resources/models.toml: `python -m tests.engine.catalogue_entries FOLDER`.

FOLDER holds a `config.json` of each model that is new or changed, named `owner--name_config.json`, and a `facts.toml`
with what no config says: of each `[[model]]` the id, licence, whether it is gated, its template, the month in which it
came out, and the public place that its config was read from. Entries that FOLDER does not name stay; one that it names
without a config gets its facts alone. A model is taken where the count that follows from our shapes is, to the unit,
that of the model that transformers builds on meta tensors; of every other one the reason is told on stderr.
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

_FACTS = ("licence", "gated", "template", "date", "source")


def main() -> int:
    """Renew the catalogue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    path = resource("models.toml")
    head = path.read_text("utf-8").split("[[model]]", 1)[0]
    models = {model["id"]: model for model in tomllib.loads(path.read_text("utf-8"))["model"]}
    for facts in tomllib.loads((folder / "facts.toml").read_text("utf-8"))["model"]:
        try:
            models[facts["id"]] = renewed(models.get(facts["id"], {}), facts, folder)
        except ValueError as error:
            print(f"{facts['id']} is left out: {error}", file=sys.stderr)
    entries = sorted(models.values(), key=lambda model: (model["parameters"], model["id"]))
    path.write_text(head + "\n".join(map(entry, entries)), "utf-8")
    return 0


def renewed(model: Mapping[str, Any], facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a model's entry with what a folder says of it. Raises ValueError where it cannot be in the catalogue."""
    name = str(facts["id"])
    told = {key: facts[key] for key in _FACTS if key in facts}
    file = folder / f"{name.replace('/', '--', 1)}_config.json"
    if not file.is_file():
        return {**model, **told}
    config = json.loads(file.read_text("utf-8"))
    stored = stored_quantization(config)
    whole = {key: value for key, value in config.items() if key != "quantization_config"}
    if why := reason_against(whole):
        raise ValueError(why)
    title = model.get("title") or name.rsplit("/", 1)[-1].replace("-", " ")
    counted = {"parameters": shape_from_config(whole).parameters, "config": kept_config(whole)}
    return {"id": name, "title": title, **told, **counted} | ({"stored": stored} if stored else {})


def reason_against(config: Mapping[str, Any]) -> str:
    """Return why a model cannot be in the catalogue, or nothing."""
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
    """Return what the catalogue keeps of a config: what its shape asks for."""
    text = dict(text_config(config))
    if "tie_word_embeddings" in config:
        text.setdefault("tie_word_embeddings", config["tie_word_embeddings"])
    if "full_attention_interval" in text:
        text.pop("layer_types", None)
    asked = _Asked(text)
    shape_from_config(asked)
    return {key: value for key, value in text.items() if key in asked.keys_asked and value is not None}


def entry(model: Mapping[str, Any]) -> str:
    """Return the entry of a model as TOML."""
    order = ("id", "title", *_FACTS[:4], "parameters", "stored", "source")
    facts = {key: model[key] for key in order if key in model}
    return "\n".join(["[[model]]", *_lines(facts), "[model.config]", *_lines(model["config"])]) + "\n"


class _Asked(dict[str, Any]):
    """A config that remembers what it was asked for."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.keys_asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_asked.add(key)
        return super().get(key, default)


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 100_000:
        return f"{value:_}"
    return json.dumps(value)


if __name__ == "__main__":
    sys.exit(main())
