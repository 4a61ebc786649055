"""Whichever layers are checkpointed, loss and gradients have the same bits."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from qlora_studio.engine.memory.checkpointing import checkpoint_layers, layer_counts

LAYERS = 4


def _model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_dropout=0.3, target_modules="all-linear", init_lora_weights=False
    )
    model = get_peft_model(LlamaForCausalLM(config), lora)
    model.enable_input_require_grads()
    return model.train()


def _step(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    ids = torch.randint(0, 64, (2, 9))
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.detach(), {name: item.grad for name, item in model.named_parameters() if item.requires_grad}


@pytest.mark.parametrize("count", [0, 1, 3, LAYERS, LAYERS + 1])
def test_a_step_has_the_same_bits_whichever_layers_are_checkpointed(count: int) -> None:
    plain, checkpointed = _model(), _model()
    checkpoint_layers(checkpointed, count)
    assert layer_counts(plain) == {"layers": LAYERS, "checkpointed_layers": 0}
    assert layer_counts(checkpointed) == {"layers": LAYERS, "checkpointed_layers": min(count or LAYERS, LAYERS)}

    loss, gradients = _step(plain)
    again, others = _step(checkpointed)
    assert torch.equal(loss, again)
    assert all(torch.equal(gradients[name], others[name]) for name in gradients)
    assert any(gradient.any() for gradient in gradients.values())


def test_the_first_layers_are_the_ones_that_are_computed_twice() -> None:
    model = _model()
    checkpoint_layers(model, 1)
    passes = [0] * LAYERS

    def count(index: int) -> Any:
        def hook(*_: Any) -> None:
            passes[index] += 1

        return hook

    for index, layer in enumerate(model.get_base_model().model.layers):
        layer.mlp.register_forward_pre_hook(count(index))
    _step(model)
    assert passes == [2, 1, 1, 1]
