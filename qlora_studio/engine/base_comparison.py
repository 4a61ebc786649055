"""Which base to merge into: the original 16-bit weights, or the 4-bit round trip that training saw. Measured."""

from pathlib import Path
from typing import Any

import torch

from qlora_studio.core.run_config import RunConfig
from qlora_studio.engine.adapted_model import release_memory
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.measurement import Rows, comparison_dtype, device_name, distributions, divergence, loss_of
from qlora_studio.engine.merged_weights import MergedWeights
from qlora_studio.engine.model_loading import load_merged
from qlora_studio.engine.nf4_round_trip import Nf4RoundTrip

_CLEARLY = 0.005  # nats a token; less is noise, and the original base is kept


def compare_bases(
    config: RunConfig,
    base: Path,
    adapter: Path,
    rows: Rows,
    live: torch.Tensor,
    trained_loss: float | None,
    context: JobContext,
) -> dict[str, Any]:
    """Return held-out loss, and divergence from the adapter as trained, of merges into both bases; and the better one.

    `live`: log-probabilities of the adapter as trained on the rows, (positions, vocabulary).
    """
    found = []
    for name in ("original", "nf4"):
        context.raise_if_stopped()
        rounding = Nf4RoundTrip(base, config.quantization) if name == "nf4" else None
        weights = MergedWeights(base, adapter, dtype=torch.bfloat16, rounding=rounding)
        parameters = sum(torch.Size(tensor.shape).numel() for tensor in weights.tensors.values())
        model = load_merged(weights, dtype=comparison_dtype(parameters), device=device_name())
        other = distributions(model, [ids for ids, _ in rows.rows])
        found.append({"base": name, "loss": loss_of(model, rows), "divergence": divergence(live, other)})
        del model
        release_memory()
    original, rounded = found
    better = "nf4" if _is_better(rounded["loss"], original["loss"]) else "original"
    return {"bases": found, "trained_loss": trained_loss, "tokens": rows.tokens, "recommended": better}


def _is_better(loss: Any, than: Any) -> bool:
    return loss is not None and than is not None and loss < than - _CLEARLY
