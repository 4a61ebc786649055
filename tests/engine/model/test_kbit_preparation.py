"""What peft's k-bit preparation is for is done; the cast to fp32 that comes with it is not, and is not missed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import prepare_model_for_kbit_training
from transformers import AutoTokenizer, set_seed

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.engine.model.adapted import attach_adapters, cast_adapters, load_base
from qlora_studio.engine.model.device import Device

_DEVICE = Device("cpu", torch.bfloat16, "adamw_torch", True)
_TEXTS = ["The log says: fair winds and a following sea.", "A ship in harbour is safe, but ships are made to sail."]


def _model(folder: Path, *, with_the_cast: bool) -> Any:
    set_seed(42)
    base = load_base(folder, RunConfig(), _DEVICE)
    if with_the_cast:
        base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    base.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    set_seed(42)
    model = attach_adapters(base, RunConfig().with_value("lora.dropout", 0.0))
    cast_adapters(model, torch.float32)
    return model


def _losses(model: Any, folder: Path, steps: int) -> list[float]:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(_TEXTS, return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    losses = []
    model.train()
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.fixture(scope="module")
def trajectories(smollm_folder: Path) -> dict[bool, list[float]]:
    """Losses over ten steps on the real small model in NF4, with and without the cast."""
    return {cast: _losses(_model(smollm_folder, with_the_cast=cast), smollm_folder, 10) for cast in (False, True)}


def test_the_base_is_frozen_and_inputs_have_gradients(tiny_llama: Path) -> None:
    model = _model(tiny_llama, with_the_cast=False)
    assert all("lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    _losses(model, tiny_llama, 1)
    assert seen[0] is True


def test_embeddings_norms_and_head_keep_their_16_bits(tiny_llama: Path) -> None:
    kept = _model(tiny_llama, with_the_cast=False)
    cast = _model(tiny_llama, with_the_cast=True)
    dtypes = {name: parameter.dtype for name, parameter in kept.named_parameters() if not parameter.requires_grad}
    assert set(dtypes.values()) == {torch.uint8, torch.bfloat16}
    assert kept.get_memory_footprint() < cast.get_memory_footprint()


@pytest.mark.slow
def test_training_without_the_cast_follows_the_same_losses(trajectories: dict[bool, list[float]]) -> None:
    without, with_cast = trajectories[False], trajectories[True]
    assert without[-1] < without[0] - 1
    assert max(abs(a - b) for a, b in zip(without, with_cast, strict=True)) < 0.05 * without[0]


def test_training_after_an_evaluation_still_sends_gradients_through_the_base(tiny_llama: Path) -> None:
    """bitsandbytes 0.50 repacks CPU weights at the first evaluation, and gradients through them are then lost."""
    undisturbed, evaluated = (_model(tiny_llama, with_the_cast=False) for _ in range(2))
    evaluated.eval()
    with torch.no_grad():
        evaluated(torch.ones(1, 4, dtype=torch.long))
    assert _losses(evaluated, tiny_llama, 3) == _losses(undisturbed, tiny_llama, 3)
