"""Flash attention's kernels, played by attention that is written out: torch's own Python above them runs as on a card.

What a call means is read as torch's documentation has it: rows between cumulated lengths, no more of each than the
longest that was named, heads that share keys, a window of tokens to the left and to the right. It shares no code with
the program.
"""

from collections.abc import Iterator
from typing import Any

import torch

calls = 0  # of the forward pass


def offer() -> None:
    """Give torch the kernels, and let it say that it has them. (SDPA goes on without: card.cpp chooses for it.)"""
    _library.impl("_flash_attention_forward", _forward, "CUDA")
    _library.impl("_flash_attention_backward", _backward, "CUDA")
    torch.backends.cuda.is_flash_attention_available = lambda: True


def _forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    key_starts: torch.Tensor,
    longest: int,
    longest_key: int,
    dropout: float,
    is_causal: bool,
    _return_mask: bool,
    **more: Any,
) -> tuple[torch.Tensor, ...]:
    """Return (tokens, heads, size) of the queries' dtype, and the logarithms of sums, fp32 of (heads, tokens)."""
    global calls
    calls += 1
    _require_taken(query, key, value, starts, key_starts, dropout)
    out, sums = torch.zeros_like(query), query.new_zeros(query.shape[1::-1], dtype=torch.float32)
    for rows, columns in _rows(starts, key_starts, longest, longest_key):
        scores = _scores(query[rows], key[columns], is_causal, **more)
        out[rows] = (scores.softmax(-1) @ _heads(value[columns], query)).transpose(0, 1).to(out.dtype)
        sums[:, rows] = scores.logsumexp(-1)
    nothing = query.new_zeros(2, dtype=torch.uint64)
    return out, sums, nothing, nothing[0], query.new_zeros(0)


def _backward(
    out_gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    sums: torch.Tensor,
    starts: torch.Tensor,
    key_starts: torch.Tensor,
    longest: int,
    longest_key: int,
    dropout: float,
    is_causal: bool,
    _random: torch.Tensor,
    _unused: torch.Tensor,
    **more: Any,
) -> tuple[torch.Tensor, ...]:
    """Return the gradients of queries, keys and values, each as wide as those."""
    _require_taken(query, key, value, starts, key_starts, dropout)
    found = tuple(torch.zeros_like(tensor, dtype=torch.float32) for tensor in (query, key, value))
    for rows, columns in _rows(starts, key_starts, longest, longest_key):
        weights = (_scores(query[rows], key[columns], is_causal, **more) - sums[:, rows, None]).exp()
        given, made = (_heads(tensor[rows], query) for tensor in (out_gradient, out))
        of_weights = given @ _heads(value[columns], query).transpose(1, 2)
        of_scores = weights * (of_weights - (given * made).sum(-1, keepdim=True)) * _scale(query, more["scale"])
        found[0][rows] = (of_scores @ _heads(key[columns], query)).transpose(0, 1)
        found[1][columns] = _shared(of_scores.transpose(1, 2) @ _heads(query[rows], query), key)
        found[2][columns] = _shared(weights.transpose(1, 2) @ given, value)
    return tuple(made.to(tensor.dtype) for made, tensor in zip(found, (query, key, value), strict=True))


def _require_taken(query: Any, key: Any, value: Any, starts: Any, key_starts: Any, dropout: float) -> None:
    """Refuse what the kernels refuse, and what is not played."""
    dtypes = {tensor.dtype for tensor in (query, key, value)}
    assert len(dtypes) == 1 and dtypes <= {torch.float16, torch.bfloat16}, "only fp16 and bf16, and all alike"
    assert query.shape[-1] == key.shape[-1] == value.shape[-1] <= 256 and query.shape[-1] % 8 == 0, "the heads' size"
    assert query.shape[1] % key.shape[1] == 0, "heads that share keys"
    assert {starts.dtype, key_starts.dtype} == {torch.int32}, "cumulated lengths are int32"
    assert all(tensor.stride(-1) == 1 for tensor in (query, key, value)), "numbers of a head lie side by side"
    assert not dropout


def _rows(starts: Any, key_starts: Any, longest: int, longest_key: int) -> Iterator[tuple[slice, slice]]:
    """Yield the tokens of each row, among the queries and among the keys."""
    (ends, key_ends) = (places.tolist() for places in (starts, key_starts))
    for i in range(len(ends) - 1):
        rows = slice(ends[i], min(ends[i + 1], ends[i] + longest))
        yield rows, slice(key_ends[i], min(key_ends[i + 1], key_ends[i] + longest_key))


def _scores(
    query: torch.Tensor,
    key: torch.Tensor,
    is_causal: bool,
    *,
    scale: float | None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
    **_: Any,
) -> torch.Tensor:
    """Return (heads, queries, keys) in fp32; the last query stands with the last key."""
    scores = _heads(query, query) @ _heads(key, query).transpose(1, 2) * _scale(query, scale)
    here = torch.arange(len(query), device=query.device)[:, None] + len(key) - len(query)
    ahead = torch.arange(len(key), device=query.device)[None] - here
    right = 0 if is_causal else window_size_right
    for limit, distance in ((window_size_left, -ahead), (right, ahead)):
        if limit is not None and limit >= 0:
            scores = scores.masked_fill(distance > limit, -torch.inf)
    return scores


def _heads(tensor: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Return (heads of the queries, tokens, size) in fp32."""
    return tensor.float().repeat_interleave(query.shape[1] // tensor.shape[1], dim=1).transpose(0, 1)


def _shared(gradient: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return the gradient of heads that several heads of the queries share, (tokens, heads, size)."""
    heads, (queries, tokens, size) = tensor.shape[1], gradient.shape
    return gradient.view(heads, queries // heads, tokens, size).sum(1).transpose(0, 1)


def _scale(query: torch.Tensor, scale: float | None) -> float:
    return query.shape[-1] ** -0.5 if scale is None else scale


_library = torch.library.Library("aten", "IMPL")  # what it was given is forgotten with it
