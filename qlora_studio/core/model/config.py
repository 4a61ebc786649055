"""Reading a `config.json`: what it leaves out comes from the family's defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.family import Family, Flag, wrapped_family


@dataclass(frozen=True)
class ConfigReader:
    """A `config.json` with its family's defaults behind it."""

    config: Mapping[str, Any]
    family: Family

    def value(self, key: str) -> Any:
        """Return what the config says of `key`, or the family's default."""
        found = self.config.get(key)
        return self.family.defaults.get(key) if found is None else found

    def number(self, key: str) -> int:
        """Return a whole number, 0 where the config has none."""
        value = self.value(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    def size(self, key: str) -> int:
        """Return a number that every model has. Raises StudioError where it is missing."""
        value = self.number(key)
        if value <= 0:
            raise StudioError(
                f"The model's config.json does not say {key}, or says nonsense.",
                kind=FailureKind.MODEL_REFUSED,
                advice="Choose a text-generating language model in the Hugging Face format.",
            )
        return value

    def experts(self) -> int:
        """Return the number of experts in a layer, 0 where the family has none."""
        keys = ("num_experts", "num_local_experts", "n_routed_experts")
        return next(filter(None, map(self.number, keys)), 0) if self.family.experts else 0

    def flag(self, flag: Flag) -> bool:
        """Return what a flag of the family comes to in this config."""
        return flag if isinstance(flag, bool) else bool(self.value(flag))


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a config that describes the language model; the whole where it is nothing else."""
    inner = config.get("text_config")
    if not isinstance(inner, Mapping):
        return config
    if inner.get("model_type"):
        return inner
    return {**inner, "model_type": wrapped_family(str(config.get("model_type", "")))}
