"""Which models have the rows of a batch padded to the longest, and why; with all others rows lie end to end."""

from qlora_studio.core.model.shape import ModelShape


def padded_because(shape: ModelShape) -> str:
    """Return why the rows of a model are padded, as the rest of a sentence; empty where they lie end to end.

    Of a family that is not known the run finds that out; until then padding, which takes more memory, is counted with.
    """
    if any(layer.recurrence for layer in shape.layer_shapes):
        return "this model carries a state from token to token, which would go on from row to row"
    if shape.sinks:
        return "this model has attention sinks, which only attention with a mask computes"
    if shape.eager_only:
        return "this model caps its attention scores, which only attention with a mask computes"
    if not shape.exact:
        return "this model's family is not known; the run tries it"
    return ""
