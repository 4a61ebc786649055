"""Whether a model keeps rows apart that share a sequence: asked of the model itself before it is trained so.

Attention does, by the positions that begin at 0 with each row. A layer that carries a state from token to token, as
linear attention and state space layers do, would carry it from one row into the next, and nothing would say so.
"""

from typing import Any

import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.engine.faults import is_card_lost, is_out_of_memory
from qlora_studio.engine.model.row_attention import attend_by_rows, knows_row_attention

_ROWS = (5, 7, 4)  # tokens
_CLOSE = 0.1  # of the outputs: what rounds otherwise in 16 bit among other rows is far below


def require_isolation(model: Any) -> None:
    """Raise StudioError where a row's outputs change with what stands before it in its pack."""
    if not _keeps_apart(model):
        raise StudioError(
            "This model does not keep the rows of a pack apart: each would be trained with the text of its neighbours.",
            kind=FailureKind.INVALID_CONFIG,
            advice="Turn packing off (training.packing = false).",
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
    """Run three short rows in a sequence: the last must depend on no other, and be about what it is alone.

    By its gradient: that of a token which is not seen is exactly zero, however numbers are rounded. What is alone shows
    positions that go on from row to row.
    """
    device = next(model.parameters()).device
    vocabulary = int(model.config.get_text_config().vocab_size)
    ids = (3 + torch.arange(sum(_ROWS), device=device)[None]) % vocabulary  # padding, mostly 0, can be all zeros
    positions = torch.cat([torch.arange(size, device=device) for size in _ROWS])[None]
    last = slice(sum(_ROWS[:-1]), None)
    was_training = model.training
    model.eval()
    try:
        together, gradient = _with_gradient(model, ids, positions, last)
        with torch.no_grad():
            alone = model(input_ids=ids[:, last], position_ids=positions[:, last], use_cache=False).logits.float()
    finally:
        model.train(was_training)
        model.zero_grad()
    is_alike = (together - alone).abs().mean() <= _CLOSE * alone.abs().mean()
    return bool(is_alike) and not bool(gradient[:, : last.start].any()) and bool(gradient[:, last].any())


def _with_gradient(model: Any, ids: Any, positions: Any, last: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits at `last`, and the gradient of their squares by the embeddings of all tokens."""
    embedded: list[torch.Tensor] = []

    def begin_here(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1] * 1  # no leaf: some classes write into it

    hook = model.get_input_embeddings().register_forward_hook(begin_here)
    try:
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, last].float()
        logits.square().sum().backward()
    finally:
        hook.remove()
    gradient = embedded[0].grad
    return logits.detach(), torch.zeros_like(embedded[0]) if gradient is None else gradient
