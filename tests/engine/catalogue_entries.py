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
from qlora_studio.core.model.family import FAMILIES
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.model.stored_quantization import stored_quantization
from qlora_studio.storage.resources import resource


_FACTS = ("licence", "gated", "template", "date", "source")
_SHAPE_KEYS = frozenset(  # of a config, what its shape and its context follow from
    "model_type hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim intermediate_size "
    "vocab_size max_position_embeddings tie_word_embeddings attention_bias mlp_bias use_bias use_qkv_bias use_qk_norm "
    "hidden_act hidden_activation layer_types full_attn_idxs full_attention_interval block_auto_adjust_ff_dim "
    "hybrid_override_pattern num_experts num_local_experts n_routed_experts moe_num_experts num_experts_per_tok moe_k "
    "moe_intermediate_size shared_expert_intermediate_size n_shared_experts moe_num_shared_experts "
    "shared_intermediate_size moe_shared_expert_intermediate_size first_k_dense_replace num_dense_layers "
    "moe_layer_start_index moe_layer_interval norm_topk_prob decoder_sparse_step q_lora_rank kv_lora_rank "
    "qk_rope_head_dim qk_nope_head_dim v_head_dim conv_L_cache linear_conv_kernel_dim linear_key_head_dim "
    "linear_num_key_heads linear_num_value_heads linear_value_head_dim mamba_d_ssm mamba_n_heads mamba_d_head "
    "mamba_d_state mamba_n_groups mamba_d_conv mamba_expand mamba_conv_bias mamba_rms_norm num_parameters".split()
)


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
    """Return what the catalogue keeps of a config."""
    text = text_config(config)
    tied = {key: config[key] for key in ("tie_word_embeddings",) if key in config and key not in text}
    kept = {key: value for key, value in {**text, **tied}.items() if key in _SHAPE_KEYS and value is not None}
    return {key: value for key, value in kept.items() if key != "layer_types" or _needed(kept)}


def entry(model: Mapping[str, Any]) -> str:
    """Return the entry of a model as TOML."""
    order = ("id", "title", *_FACTS[:4], "parameters", "stored", "source")
    facts = {key: model[key] for key in order if key in model}
    return "\n".join(["[[model]]", *_lines(facts), "[model.config]", *_lines(model["config"])]) + "\n"


def _needed(config: Mapping[str, Any]) -> bool:
    """Whether the kinds of layers say what nothing else in a config does; windows change no count."""
    return FAMILIES[config["model_type"]].mixer != "attention" and "full_attention_interval" not in config


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 100_000:
        return f"{value:_}"
    return json.dumps(value)


if __name__ == "__main__":
    sys.exit(main())
