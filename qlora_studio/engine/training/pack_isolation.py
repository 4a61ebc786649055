"""Whether a model keeps rows apart that share a sequence: asked of the model itself before it is trained so.

Attention does, by the positions that begin at 0 with each row. A layer that carries a state from token to token, as
linear attention and state space layers do, would carry it from one row into the next, and nothing would say so.
"""

from typing import Any

import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.faults import is_card_lost, is_out_of_memory
from qlora_studio.engine.model.row_attention import attend_by_rows, knows_row_attention

_ROW, _BETWEEN = 5, 7  # tokens of the first and the last row, and of the one between them
_CLOSE = 0.1  # of the outputs: what rounds otherwise in 16 bit among other rows is far below


def require_isolation(model: Any) -> None:
    """Raise StudioError where a row's outputs change with what stands before it in its pack."""
    if not _keeps_apart(model):
        raise StudioError(
            say(
                "This model does not keep the rows of a pack apart: each would be trained with the "
                "text of its neighbours."
            ),
            kind=FailureKind.INVALID_CONFIG,
            advice=say("Turn packing off (training.packing = false)."),
        )


def lay_end_to_end(model: Any) -> bool:
    """Have a model attend by rows that lie end to end, where it does keep them apart; return whether it does now.

    Some classes read the mask themselves, and a kernel may be missing on a card: what fails keeps its padding.
    """
    if not knows_row_attention(model):
        return False
    attend_by_rows(model)
    try:
        if _keeps_apart(model):
            return True
    except (RuntimeError, TypeError, AttributeError, ValueError, NotImplementedError) as error:
        if is_out_of_memory(error) or is_card_lost(error):
            raise
    attend_by_rows(model, yes=False)
    return False


def _keeps_apart(model: Any) -> bool:
    """Run three short rows in a sequence, the last alike the first: it must depend on no other, and be about the same.

    By its gradient: that of a token which is not seen is exactly zero, however numbers are rounded. The first row has
    nothing before it; what comes out of the last otherwise shows positions that go on from row to row.
    """
    device = next(model.parameters()).device
    vocabulary = int(model.config.get_text_config().vocab_size)
    tokens = 3 + torch.arange(_ROW + _BETWEEN, device=device)  # padding, mostly 0, can be all zeros
    ids = torch.cat([tokens, tokens[:_ROW]])[None] % vocabulary
    positions = torch.cat([torch.arange(size, device=device) for size in (_ROW, _BETWEEN, _ROW)])[None]
    was_training = model.training
    model.eval()
    try:
        logits, gradient = _with_gradient(model, ids, positions)
    finally:
        model.train(was_training)
        model.zero_grad()
    first, last = logits[:, :_ROW], logits[:, -_ROW:]
    is_alike = (last - first).abs().mean() <= _CLOSE * first.abs().mean()
    return bool(is_alike) and not bool(gradient[:, :-_ROW].any()) and bool(gradient[:, -_ROW:].any())


def _with_gradient(model: Any, ids: Any, positions: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits, and the gradient of the last row's squares by the embeddings of all tokens."""
    embedded: list[torch.Tensor] = []

    def begin_here(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1] * 1  # no leaf: some classes write into it

    hook = model.get_input_embeddings().register_forward_hook(begin_here)
    try:
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits.float()
        logits[:, -_ROW:].square().sum().backward()
    finally:
        hook.remove()
    gradient = embedded[0].grad
    return logits.detach(), torch.zeros_like(embedded[0]) if gradient is None else gradient
