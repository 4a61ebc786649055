"""Which base to merge into: the original 16-bit weights, or the 4-bit round trip that training saw. Measured."""

import math
from pathlib import Path

import torch

from qlora_studio.core.run.reports import BasesReport, MeasuredBase
from qlora_studio.core.run.run_config import RunConfig
from qlora_studio.engine.context import Commands
from qlora_studio.engine.merge.nf4_round_trip import Nf4RoundTrip
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.model.adapted import release_memory
from qlora_studio.engine.model.loading import load_merged
from qlora_studio.engine.verification.measurement import (
    Rows,
    comparison_dtype,
    device_name,
    distributions,
    divergence,
    mean_loss,
    paired_difference,
    row_losses,
)

_CLEARLY = 0.005  # nats a token; less is not worth it, and the original base is kept
_ERRORS = 2.0  # so many standard errors a difference must be above nothing


def compare_bases(
    config: RunConfig,
    base: Path,
    adapter: Path,
    rows: Rows,
    live: torch.Tensor,
    trained_loss: float | None,
    commands: Commands,
) -> BasesReport:
    """Return held-out loss, and divergence from the adapter as trained, of merges into both bases; and the better one.

    `live`: log-probabilities of the adapter as trained on the rows, (positions, vocabulary).
    """
    found, losses = [], []
    for name in ("original", "nf4"):
        commands.raise_if_stopped()
        rounding = Nf4RoundTrip(base, config.quantization) if name == "nf4" else None
        weights = MergedWeights(base, adapter, dtype=torch.bfloat16, rounding=rounding)
        parameters = sum(torch.Size(tensor.shape).numel() for tensor in weights.tensors.values())
        model = load_merged(weights, dtype=comparison_dtype(parameters), device=device_name())
        other = distributions(model, [ids for ids, _ in rows.rows])
        losses.append(row_losses(model, rows))
        found.append(MeasuredBase(base=name, loss=mean_loss(losses[-1]), divergence=divergence(live, other)))
        del model
        release_memory()
    gain, error = paired_difference(*losses)
    return BasesReport(
        bases=tuple(found),
        recommended=better_base(gain, error),
        trained_loss=trained_loss,
        tokens=rows.tokens,
        gain_of_nf4=gain,
        standard_error=error if math.isfinite(error) else None,
    )


def better_base(gain: float, error: float) -> str:
    """Return which base to merge into. `gain`: by how much the loss is lower on the 4-bit one; `error`: its error.

    The original one, unless the other is better beyond doubt: models are used for more than what was held out.
    """
    return "nf4" if gain > max(_CLEARLY, _ERRORS * error) else "original"
