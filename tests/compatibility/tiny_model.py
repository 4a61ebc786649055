"""A model small enough to be kept in the repository, its tokenizer, and the chats that it learns from."""

import json
from pathlib import Path
from typing import Any

_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_VOCABULARY = 320
_ROWS = 40


def make_rows(path: Path) -> None:
    """Write short chats as JSON Lines."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for turns in _chats():
            file.write(json.dumps({"messages": turns}) + "\n")


def make_model(folder: Path) -> None:
    """Save a random Llama of some 30,000 parameters in bf16, always the same, with a tokenizer of its own."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer() -> Any:
    """Return a byte-level tokenizer, trained on the chats."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator([turn["content"] for turns in _chats() for turn in turns], trainer)
    assert trained.get_vocab_size() == _VOCABULARY
    unknown, opening, ending = _SPECIAL
    names = {"bos_token": opening, "eos_token": ending, "unk_token": unknown, "pad_token": unknown}
    return PreTrainedTokenizerFast(tokenizer_object=trained, chat_template=_CHAT_TEMPLATE, **names)


def _chats() -> list[list[dict[str, str]]]:
    return [
        [
            {"role": "user", "content": f"What is {number} plus {number}?"},
            {"role": "assistant", "content": f"Ahoy! {number} plus {number} is {2 * number}." + " Aye!" * (number % 3)},
        ]
        for number in range(_ROWS)
    ]
