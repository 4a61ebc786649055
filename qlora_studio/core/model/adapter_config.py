"""What an `adapter_config.json` of peft may say: each setting that is read here, of its kind and within bounds."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say

ADAPTER_CONFIG = "adapter_config.json"
Number = Annotated[int | float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Rank = Annotated[int, Field(ge=1, le=1 << 20)]
Index = Annotated[int, Field(ge=0, lt=1 << 31)]
Names = Annotated[list[str], Field(fail_fast=True)]
Indices = Annotated[list[Index], Field(fail_fast=True)]

_KINDS: dict[str, Any] = {
    **dict.fromkeys(("peft_type", "base_model_name_or_path", "bias"), (str | None, None)),
    "r": (Rank, 8),
    "lora_alpha": (Number, 8),
    "lora_dropout": (Number, 0),
    "rank_pattern": (dict[str, Rank] | None, None),
    "alpha_pattern": (dict[str, Number] | None, None),
    **dict.fromkeys(("target_modules", "exclude_modules"), (Names | str | None, None)),
    **dict.fromkeys(("target_parameters", "modules_to_save"), (Names | None, None)),
    "layers_to_transform": (Indices | Index | None, None),
    "trainable_token_indices": (Indices | dict[str, Indices] | None, None),
    "init_lora_weights": (bool | str | None, None),
    **dict.fromkeys(
        ("use_rslora", "use_dora", "lora_bias", "fan_in_fan_out", "ensure_weight_tying"), (bool | None, None)
    ),
}
_AdapterConfig: type[BaseModel] = create_model("_AdapterConfig", __config__=ConfigDict(strict=True), **_KINDS)


def sound_adapter_config(table: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the settings of the adapter in a folder as they are. Raises StudioError where they cannot be right."""
    try:
        _AdapterConfig.model_validate(table)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)[0]
        raise StudioError(
            say(
                "The adapter in {name} cannot be read: its {adapter_config} cannot be right, {loc} is {input:.40}.",
                name=name,
                adapter_config=ADAPTER_CONFIG,
                loc=found["loc"][0],
                input=repr(found["input"]),
            ),
            kind=FailureKind.DAMAGED,
            advice=say("Copy it again, or take another one."),
        ) from error
    return table
