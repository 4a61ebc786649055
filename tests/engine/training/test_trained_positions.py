"""Scoring trained positions alone gives the loss, the gradients and the metrics that scoring every position gives."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from qlora_studio.engine.data.tokenized_rows import IGNORED
from qlora_studio.engine.training.trained_positions import trained_positions
from tests.engine.tiny_families import NO_TEXT, families, tiny_config

_HEADS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "smollm3": {"tie_word_embeddings": True},
    "gemma2": {"final_logit_softcapping": 2.0},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.25},
    "falcon_h1": {"lm_head_multiplier": 0.3},
    "phi": {},  # its head has a bias
    "qwen3_moe": {"output_router_logits": True, "router_aux_loss_coef": 0.1},
    "qwen3_5_text": {},  # layers that carry a state
}
_NOT_BY_TRL = {"blt", "rembert", "xmod"}  # these fail with plain trl, in their own code or as tiny ones
_METRICS = ("log_probs", "entropy", "is_top1")


def model_of(family: str) -> Any:
    config = tiny_config(family)
    for name, value in _HEADS[family].items():
        setattr(config, name, value)
    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    head = model.get_output_embeddings()
    if head.bias is not None:
        torch.nn.init.normal_(head.bias)
    return model.train()


def padded() -> dict[str, torch.Tensor]:
    """Three rows of 12, 9 and 5 tokens, of which some are trained, also the first and the last of a row."""
    torch.manual_seed(2)
    ids = torch.randint(3, 200, (3, 12))
    mask = torch.arange(12)[None] < torch.tensor([[12], [9], [5]])
    labels = torch.where(mask & (torch.rand(3, 12) < 0.5), ids, IGNORED)
    labels[0, 0], labels[0, -1] = ids[0, 0], ids[0, -1]
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}


def packed() -> dict[str, torch.Tensor]:
    """Two packs, of rows of 7 and 5, and of 4 and 8 tokens."""
    batch = padded()
    batch["position_ids"] = torch.stack([torch.cat([torch.arange(a), torch.arange(12 - a)]) for a in (7, 4)])
    del batch["attention_mask"]
    return {name: tensor[:2] for name, tensor in batch.items()}


def gradients(model: Any, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("make", [padded, packed])
@pytest.mark.parametrize("family", _HEADS)
def test_loss_gradients_and_metrics_are_those_of_the_models_own_logits(family: str, make: Any) -> None:
    model, batch = model_of(family), make()
    balance = model.config.router_aux_loss_coef if family == "qwen3_moe" else 0.0
    own = model(**{name: tensor for name, tensor in batch.items() if name != "labels"}, use_cache=False)
    targets = batch["labels"][:, 1:]
    logits = own.logits[:, :-1][targets != IGNORED].float()
    targets, items = targets[targets != IGNORED], 77
    wanted = torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / items
    wanted = wanted + balance * own.aux_loss if balance else wanted
    wanted_gradients = gradients(model, wanted)

    add_fused_lm_head(model, outputs=_METRICS)
    with trained_positions(model, batch) as scored:
        found = model(**scored, fused_lm_head=True)
    loss = -found.log_probs.sum() / items + (balance * found.aux_loss if balance else 0.0)
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=0)
    found_gradients = gradients(model, loss)
    assert (found_gradients - wanted_gradients).norm() <= 2e-6 * wanted_gradients.norm()
    probabilities = logits.softmax(-1)
    assert int(found.label_mask.sum()) == len(targets)
    assert int(found.is_top1.sum()) == int((logits.argmax(-1) == targets).sum())
    torch.testing.assert_close(found.entropy.sum(), -(probabilities * probabilities.log()).sum(), rtol=1e-5, atol=1e-5)
    assert found.log_probs.numel() == len(targets), "positions were scored that are not trained"


def test_how_many_positions_are_trained_is_asked_once_a_batch() -> None:
    """Each use of a mask would ask a card anew, and wait for it."""
    asked: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            by_mask = "index" in str(func) and any(item.dtype == torch.bool for item in args[1] if item is not None)
            if by_mask or "nonzero" in str(func) or "_local_scalar" in str(func):
                asked.append(str(func))
            return func(*args, **(kwargs or {}))

    def run(**inputs: Any) -> None:
        model.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)

    model, batch = model_of("llama"), padded()
    with Watch():  # type: ignore[no-untyped-call]
        run(**batch)
    bare = sorted(asked)
    asked.clear()
    with Watch(), trained_positions(model, batch) as scored:  # type: ignore[no-untyped-call]
        run(**scored)
    assert sorted(asked) == [*bare, "aten.nonzero.default"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", sorted(set(families()) - set(NO_TEXT) - _NOT_BY_TRL))
def test_every_class_that_trl_can_score_is_scored_alike(family: str) -> None:
    torch.manual_seed(3)
    model: Any = AutoModelForCausalLM.from_config(tiny_config(family), dtype=torch.float32).eval()
    if model.base_model is model:
        model.base_model_prefix = "model"  # of Llama 4's text class, as for a run
    add_fused_lm_head(model, outputs=_METRICS)
    batch = padded()
    batch["attention_mask"] = torch.ones_like(batch["attention_mask"])  # some take none
    with torch.no_grad():
        every = model(**batch, use_cache=False, fused_lm_head=True)
        with trained_positions(model, batch) as scored:
            alone = model(**scored, use_cache=False, fused_lm_head=True)
    assert alone.log_probs.numel() == int(every.label_mask.sum())
    torch.testing.assert_close(alone.log_probs.sum(), every.log_probs.sum(), rtol=2e-6, atol=0)
