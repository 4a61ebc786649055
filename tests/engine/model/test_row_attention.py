"""Rows that lie end to end: each is to itself what it is alone, sees no neighbour, and no mask is made for them."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from qlora_studio.core.model.family import FAMILIES
from qlora_studio.core.model.padding import padded_because
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.engine.memory.checkpointing import checkpoint_layers
from qlora_studio.engine.model.row_attention import RowBounds, _by_varlen, attend_by_rows, attends_by_rows
from qlora_studio.engine.training.pack_isolation import lay_end_to_end
from tests.engine.tiny_families import families, tiny_config

_LENGTHS = (11, 40, 1, 26)  # tokens; the second is longer than the window of tiny sliding attention
_MIDDLE = slice(_LENGTHS[0], _LENGTHS[0] + _LENGTHS[1])


def model_of(family: str, **changes: Any) -> Any:
    config = tiny_config(family)
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa").train()


def rows(seed: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 200, (1, size), generator=generator) for size in _LENGTHS]


def end_to_end(parts: list[torch.Tensor]) -> dict[str, Any]:
    positions = torch.cat([torch.arange(part.shape[1]) for part in parts])[None]
    return {"input_ids": torch.cat(parts, 1), "position_ids": positions, "use_cache": False}


def learned(model: Any, batches: list[dict[str, Any]], weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of all batches, one after another, and the gradient of their product with `weight`."""
    model.zero_grad()
    logits = torch.cat([model(**batch).logits for batch in batches], dim=1)
    (logits * weight).sum().backward()
    found = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
    return logits.detach(), torch.cat(found)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("qwen3", {"num_key_value_heads": 1}),
        ("gemma3_text", {"sliding_window": 16}),
        ("deepseek_v3", {}),  # values narrower than keys
    ],
)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_rows_end_to_end_have_the_logits_and_the_gradient_that_they_have_alone(
    family: str, changes: dict[str, Any], checkpointed: bool
) -> None:
    model, parts = model_of(family, **changes), rows()
    weight = torch.randn(1, sum(_LENGTHS), 1)
    alone, alone_gradient = learned(model, [{"input_ids": part, "use_cache": False} for part in parts], weight)
    assert lay_end_to_end(model)
    if checkpointed:
        checkpoint_layers(model)
    together, gradient = learned(model, [end_to_end(parts)], weight)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert (gradient - alone_gradient).norm() <= 1e-5 * alone_gradient.norm()


def test_other_tokens_in_a_row_leave_every_bit_of_its_neighbours() -> None:
    model, parts = model_of("llama"), rows()
    attend_by_rows(model)
    others = [part if index == 1 else other for index, (part, other) in enumerate(zip(parts, rows(5), strict=True))]
    weight = torch.zeros(1, sum(_LENGTHS), 1)
    weight[:, _MIDDLE] = 1.0
    first, gradient = learned(model, [end_to_end(parts)], weight)
    second, same = learned(model, [end_to_end(others)], weight)
    assert torch.equal(first[:, _MIDDLE], second[:, _MIDDLE])
    assert torch.equal(gradient, same)
    assert not torch.equal(first, second)


class Squares(TorchDispatchMode):
    """Counts the tensors that hold a number for each pair of tokens."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.found += isinstance(out, torch.Tensor) and out.shape[-2:] == (sum(_LENGTHS), sum(_LENGTHS))
        return out


def test_no_mask_of_every_token_against_every_token_is_made() -> None:
    model = model_of("llama")
    with Squares() as by_mask:
        model(**end_to_end(rows()))
    attend_by_rows(model)
    with Squares() as by_rows:
        model(**end_to_end(rows()))
    assert by_mask.found and not by_rows.found


def test_answers_and_padded_rows_go_through_sdpa_as_ever() -> None:
    model, prompt = model_of("llama").eval(), rows()[0]
    mask = torch.ones(2, 11, dtype=torch.long)
    mask[1, 7:] = 0
    padded = {"input_ids": prompt.repeat(2, 1), "attention_mask": mask}
    found = []
    for by_rows in (False, True):
        attend_by_rows(model, yes=by_rows)
        answer = model.generate(prompt, max_new_tokens=6, do_sample=False)
        found.append((answer, model(**padded).logits))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_torchs_attention_for_cards_takes_what_it_is_given() -> None:
    """Its shapes and arguments alone, on meta tensors: it computes on cards only (tests/gpu/test_row_attention.py)."""

    def heads(count: int) -> torch.Tensor:
        return torch.empty(1, count, 30, 64, device="meta", dtype=torch.bfloat16, requires_grad=True)

    query, key, value = heads(8), heads(2), heads(2)
    bounds = RowBounds((10, 20), torch.zeros(3, dtype=torch.int32, device="meta"))
    out = _by_varlen(query, key, value, bounds, 0.0, None)
    assert out.shape == (1, 30, 8, 64)
    out.sum().backward()
    assert query.grad is not None and key.grad is not None and key.grad.shape == key.shape


@pytest.mark.parametrize("family", ["lfm2", "falcon_h1", "qwen3_5_text", "gemma2", "doge", "opt", "marian"])
def test_a_model_that_would_mix_its_rows_keeps_the_attention_that_it_has(family: str) -> None:
    model: Any = AutoModelForCausalLM.from_config(tiny_config(family), dtype=torch.float32)
    before = model.config.get_text_config()._attn_implementation
    assert not lay_end_to_end(model)
    assert not attends_by_rows(model) and model.config.get_text_config()._attn_implementation == before


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(set(FAMILIES) & set(families())))
def test_what_is_told_of_a_family_before_the_run_is_what_its_model_does(family: str) -> None:
    from qlora_studio.engine.memory.architecture import knows_sdpa

    config = tiny_config(family)
    reason = padded_because(shape_from_config(config.to_dict()))
    attention = "eager" if not knows_sdpa(config) or shape_from_config(config.to_dict()).eager_only else "sdpa"
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    assert lay_end_to_end(model) == (not reason)
