"""Several machines that train one run: how many, which one this is, and where they meet. By an explicit act alone.

Machine 0 has the run's folder. The others have the base model and the data, and are given all else.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.named_places import named_places, renamed

# Of the environment of machine 0's worker: a `Machines` as JSON. Whoever starts a worker sets it, if only to nothing.
VARIABLE = "QLORA_STUDIO_MACHINES"
MOST = 64


class Machines(BaseModel):
    """Of `count` machines this is the one with that number; they meet at an address of machine 0, and a port.

    All that they say goes by this machine's `interface`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=2, le=MOST)
    number: int = Field(ge=0, lt=MOST)
    host: str
    port: int = Field(gt=0, lt=1 << 16)
    interface: str


def different_settings(first: RunConfig, other: RunConfig) -> list[str]:
    """Return the settings in which two machines' run files differ, but for those that are a machine's own."""
    here, there = _flat(_shared(first)), _flat(_shared(other))
    return sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))


def with_own_places(config: RunConfig, own: RunConfig) -> RunConfig:
    """Return a config with what is a machine's own: where base and data lie there, and which cards it has."""
    names = iter([name for _, name in named_places(own)])
    config = renamed(config, lambda *_: next(names))
    return config.model_copy(update={"model": own.model, "hardware": own.hardware})


def _shared(config: RunConfig) -> dict[str, Any]:
    """Return what all machines must agree on."""
    told = ("data.evaluation_path", "lora.start_from")  # whether there is one is a matter of all
    config = renamed(config, lambda setting, name: "given" if name and setting in told else "")
    return config.model_dump(exclude={"name", "model", "hardware", "export"})


def _flat(data: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{section}.{name}": value
        for section, values in data.items()
        if isinstance(values, dict)
        for name, value in values.items()
    }
