"""Whether a model keeps the rows of a pack apart: asked of the model itself before it is trained in packs.

Attention does, by the positions that begin at 0 with each row. A layer that carries a state from token to token, as
linear attention and state space layers do, would carry it from one row into the next, and nothing would say so.
"""

from typing import Any

import torch

from qlora_studio.core.errors import FailureKind, StudioError

_ROWS = (5, 7, 4)  # tokens
_ROUNDING = 0.004  # of the outputs: half a unit in the last place of bfloat16


def require_isolation(model: Any) -> None:
    """Raise StudioError where a row's outputs change with what stands before it in its pack."""
    if not _keeps_apart(model):
        raise StudioError(
            "This model does not keep the rows of a pack apart: each would be trained with the text of its neighbours.",
            kind=FailureKind.INVALID_CONFIG,
            advice="Turn packing off (training.packing = false).",
        )


def _keeps_apart(model: Any) -> bool:
    """Run three short rows in a pack, and again with other tokens in the first; the others must not notice.

    Equal inputs give equal bits, but in a mixture of experts, which is given other tokens together and so may round
    otherwise.
    """
    device = next(model.parameters()).device
    vocabulary = int(model.config.get_text_config().vocab_size)
    ids = torch.arange(sum(_ROWS), device=device)[None] % vocabulary
    other = ids.clone()
    other[:, : _ROWS[0]] = (ids[:, : _ROWS[0]] + vocabulary // 2) % vocabulary
    positions = torch.cat([torch.arange(size, device=device) for size in _ROWS])[None]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            first, second = (
                model(input_ids=tokens, position_ids=positions, use_cache=False).logits[:, _ROWS[0] :]
                for tokens in (ids, other)
            )
    finally:
        model.train(was_training)
    difference = (first.float() - second.float()).abs().mean()
    return bool(difference <= _ROUNDING * first.float().abs().mean())
