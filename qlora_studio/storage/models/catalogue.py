"""The catalogue of popular models: what can be judged, and offered, before anything is downloaded."""

import functools
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qlora_studio.core.model.shape import ModelShape, shape_from_config
from qlora_studio.storage.resources import resource


@dataclass(frozen=True)
class CatalogueModel:
    """A model of the catalogue. `template` names its chat template's family; empty means a base model.

    `gated` models need an account on the hub that accepted their licence. `date` is the month in which it came out,
    `source` where the config was read, `stored` how the weights are stored where they are quantized.
    """

    id: str
    title: str
    licence: str
    gated: bool
    template: str
    parameters: int
    config: dict[str, Any] = field(hash=False)
    date: str = ""
    source: str = ""
    stored: str = ""

    @functools.cached_property
    def shape(self) -> ModelShape:
        """The model's shape."""
        return shape_from_config(self.config)


@functools.cache
def model_catalogue(path: Path | None = None) -> tuple[CatalogueModel, ...]:
    """Return the models of the catalogue, the smallest first."""
    data = tomllib.loads((path or resource("models.toml")).read_text("utf-8"))
    return tuple(CatalogueModel(**entry) for entry in data["model"])


def find_in_catalogue(source: str) -> CatalogueModel | None:
    """Return the entry of a hub id, whatever its case, or None."""
    wanted = source.strip().lower()
    return next((model for model in model_catalogue() if model.id.lower() == wanted), None)
