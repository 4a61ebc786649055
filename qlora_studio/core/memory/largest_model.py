"""Which models fit a card, by the sizes that people call them by: every dense one up to a size."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fit import FitVerdict, judge
from qlora_studio.core.memory.gpu_catalogue import GpuSpec
from qlora_studio.core.model.recommendation import with_recommendations
from qlora_studio.core.model.shape import ModelShape

_BILLION = 1e9


@dataclass(frozen=True)
class Largest:
    """`billions` is the size up to which every dense model fits; the names are the largest that fit, or empty."""

    billions: int
    dense: str
    mixture: str


def largest_model(
    models: Iterable[tuple[str, ModelShape]],
    config: RunConfig,
    free_bytes: int,
    *,
    gpu: GpuSpec | None = None,
    rank: int | None = None,
) -> Largest:
    """Return which of the models, by name and shape, surely fit: with the recommended rank, or this one.

    Those with embeddings for each layer are left out: they are called by less than they are.
    """
    dense: list[tuple[int, str, int]] = []
    mixtures: list[tuple[int, str]] = []
    smallest_too_large = math.inf
    for name, shape in ((name, shape) for name, shape in models if not shape.outer_linears):
        sized = config if rank else with_recommendations(config, shape.parameters)
        fits = judge(estimate(sized, shape, gpu=gpu), free_bytes).verdict is FitVerdict.FITS
        if shape.experts:
            mixtures += [(shape.parameters, name)] if fits else []
        elif fits:
            dense.append((shape.parameters, name, _billions(name, shape)))
        else:
            smallest_too_large = min(smallest_too_large, _billions(name, shape))
    sizes = (size for _, _, size in dense if size < smallest_too_large)
    return Largest(
        billions=max(sizes, default=0),
        dense=max(dense, default=(0, "", 0))[1],
        mixture=max(mixtures, default=(0, ""))[1],
    )


def _billions(name: str, shape: ModelShape) -> int:
    """Return the size that a model has in its name, else its own."""
    said = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)B\b", name, re.IGNORECASE)
    return int(float(said[1])) if said else round(shape.parameters / _BILLION)
