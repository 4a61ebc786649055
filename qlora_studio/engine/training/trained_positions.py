"""The head scores what is trained, and no other position: its logits are the widest tensors of a step.

trl's fused head leaves out the others where Triton runs, that is on a card under Linux. Elsewhere it scores every
position and throws most away, forward and backward: a good quarter of a step on a processor.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils.import_utils import is_triton_available

from qlora_studio.engine.data.tokenized_rows import IGNORED


@contextmanager
def trained_positions(model: Any, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Let what the model without its head returns be the trained positions alone; yield the inputs that go with it.

    `labels` (rows, tokens) become `shift_labels` (1, trained), as the head scores those without moving them. The head
    itself, with its bias, scale and soft-capping, stays as it is.
    """
    labels = inputs["labels"]
    if labels.device.type == "cuda" and is_triton_available():
        yield inputs
        return
    # By number and not by a mask: how many there are is then asked of a card once, and not at each use.
    trained = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)

    def select(module: Any, args: Any, output: Any) -> Any:
        hidden = output.last_hidden_state[:, :-1]  # of the last token nothing follows
        output["last_hidden_state"] = hidden[tuple(index.to(hidden.device) for index in trained)][None]
        return output

    backbone = getattr(model, "get_base_model", lambda: model)().base_model
    hook = backbone.register_forward_hook(select)
    try:
        scored = {name: value for name, value in inputs.items() if name != "labels"}
        yield {**scored, "shift_labels": labels[:, 1:][trained][None]}
    finally:
        hook.remove()
