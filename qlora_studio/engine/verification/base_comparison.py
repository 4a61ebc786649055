"""Which base to merge into: the original 16-bit weights, or the 4-bit round trip that training saw. Measured."""

import math
from collections.abc import Mapping

import torch

from qlora_studio.core.run.reports import BasesReport, MeasuredBase
from qlora_studio.engine.merge.nf4_round_trip import Nf4RoundTrip
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.verification.comparison import Outcome, compare
from qlora_studio.engine.verification.measurement import mean_loss, paired_difference
from qlora_studio.engine.verification.models import References
from qlora_studio.engine.verification.passes import Passes, merged_nowhere
from qlora_studio.engine.verification.subject import Subject
from qlora_studio.engine.verification.way import Way

_CLEARLY = 0.005  # nats a token; less is not worth it, and the original base is kept
_ERRORS = 2.0  # so many standard errors a difference must be above nothing


def compare_bases(
    subject: Subject, references: References, known: Mapping[str, Outcome], passes: Passes, way: Way, tokens: int
) -> BasesReport:
    """Return held-out loss, and divergence from the adapter as trained, of merges into both bases; and the better one.

    `known`: what a merge into one of them made of the rows, where a bf16 export of it was measured already.
    """
    outcomes = {name: known.get(name) or _merged(subject, name, passes, way) for name in ("original", "nf4")}
    models = {"trained": references.trained.outcome, **outcomes}
    pairs = [("trained", name) for name in outcomes]
    found = compare(models, pairs, references.batches, rows=references.sequences)
    measured = [
        MeasuredBase(base=name, loss=mean_loss(found.losses[name]), divergence=found.pairs["trained", name].divergence)
        for name in outcomes
    ]
    gain, error = paired_difference(found.losses["original"], found.losses["nf4"])
    return BasesReport(
        bases=tuple(measured),
        recommended=better_base(gain, error),
        trained_loss=references.trained.loss,
        tokens=tokens,
        gain_of_nf4=gain,
        standard_error=error if math.isfinite(error) else None,
    )


def better_base(gain: float, error: float) -> str:
    """Return which base to merge into. `gain`: by how much the loss is lower on the 4-bit one; `error`: its error.

    The original one, unless the other is better beyond doubt: models are used for more than what was held out.
    """
    return "nf4" if gain > max(_CLEARLY, _ERRORS * error) else "original"


def _merged(subject: Subject, name: str, passes: Passes, way: Way) -> Outcome:
    if subject.config is None:
        raise ValueError("an adapter made elsewhere was trained nobody knows how")
    rounding = Nf4RoundTrip(subject.base, subject.config.quantization) if name == "nf4" else None
    weights = MergedWeights(subject.base, subject.adapter, dtype=torch.bfloat16, rounding=rounding)
    return passes.run(merged_nowhere(weights, f"merged-{name}", dtype=way.dtype, device=way.device)).outcomes[True]
