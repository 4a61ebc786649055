"""Which layers compute their activations twice instead of keeping them."""

from typing import Any

from transformers.modeling_layers import GradientCheckpointingLayer


def checkpoint_layers(model: Any, count: int = 0) -> None:
    """Checkpoint the first `count` decoder layers of a model, all of them where that is 0; keep what the others save.

    The first, since the last have given back their memory when these are computed again. Loss and gradients are the
    same whichever they are. A model whose layers cannot be told apart is checkpointed as a whole.
    """
    # WORKAROUND older transformers, as on a machine lent for calibration, know only the older name
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    layers = _layers(model)
    for index, layer in enumerate(layers):
        layer.gradient_checkpointing = index < (count or len(layers))


def layer_counts(model: Any) -> dict[str, int]:
    """Return the fields of ModelLoaded that say how many layers there are, and how many of them are checkpointed."""
    layers = _layers(model)
    return {"layers": len(layers), "checkpointed_layers": sum(layer.gradient_checkpointing for layer in layers)}


def _layers(model: Any) -> list[GradientCheckpointingLayer]:
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
