"""What a recurrence keeps for its backward pass, and holds while that runs. Sizes are bytes for one token.

transformers' own code in torch is what runs: the packages with kernels for it (flash-linear-attention, mamba-ssm,
causal-conv1d) are not among what this program installs. The numbers below were fitted to the
tracer's steps over models of many widths; tests hold the formula to it.
"""

from qlora_studio.core.model.recurrence import Recurrence

# Bytes for each of a recurrence's inputs, outputs, channels, scores and states.
_SAVED: dict[str, tuple[int, ...]] = {
    "delta": (32, 24, 4, 20, 5),
    "mamba": (20, 36, 4, 12, 8),
    "convolution": (0, 0, 10, 0, 0),
}
_BACKWARD: dict[str, tuple[int, ...]] = {
    "delta": (54, 33, 5, 6, 1),
    "mamba": (24, 51, 0, 13, 14),
    "convolution": (0, 0, 20, 0, 0),
}


def saved_bytes(recurrence: Recurrence) -> int:
    """Return what it keeps."""
    return _weighed(recurrence, _SAVED)


def backward_bytes(recurrence: Recurrence) -> int:
    """Return the most that its backward pass holds, with what it kept."""
    return _weighed(recurrence, _BACKWARD)


def _weighed(it: Recurrence, weights: dict[str, tuple[int, ...]]) -> int:
    counts = (it.inputs, it.outputs, it.channels, it.scores, it.states)
    return sum(weight * count for weight, count in zip(weights[it.kind], counts, strict=True))
