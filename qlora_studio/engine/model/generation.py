"""Answers of a model, whole or streamed piece by piece."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import TextStreamer

from qlora_studio.engine.templates.prompting import Prompting
from qlora_studio.engine.templates.stop_tokens import stop_token_ids

_AS_TODAY = Prompting()


def answer(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    *,
    prompting: Prompting = _AS_TODAY,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 42,
    on_text: Callable[[str], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> str:
    """Return the model's answer to a conversation; greedy at temperature 0. Training mode and RNG stay as they were."""
    inputs = prompt_inputs(tokenizer, messages, prompting).to(model.device)
    settings = model.config.get_text_config()
    was_training, used_cache = model.training, getattr(settings, "use_cache", True)
    model.eval()
    settings.use_cache = True
    cuda = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)
            output = model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                use_cache=True,
                do_sample=temperature > 0,
                temperature=temperature if temperature > 0 else None,
                top_p=None,
                top_k=None,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=stop_tokens(model, tokenizer),
                streamer=AnswerStreamer(tokenizer, on_text) if on_text else None,
                stopping_criteria=StoppingCriteriaList([_Stopped(stopped)]),
            )
    finally:
        settings.use_cache = used_cache
        model.train(was_training)
    return str(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def prompt_inputs(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], prompting: Prompting = _AS_TODAY
) -> Any:
    """Return `input_ids` and `attention_mask`, each int64 of shape (1, tokens), up to where the answer begins."""
    text = prompting.text(tokenizer, messages)
    return tokenizer(text, add_special_tokens=False, return_tensors="pt")


def stop_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that end an answer: the generation config's, the tokenizer's and the template's."""
    configured = model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return sorted({int(item) for item in [*ids, *stop_token_ids(tokenizer)] if item is not None})


class AnswerStreamer(TextStreamer):
    """Tells the text of token ids as they come, words whole. What is put first is the prompt, which is not told."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._on_text = on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Hand on a piece."""
        if text:
            self._on_text(text)


class _Stopped(StoppingCriteria):
    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._stopped(), device=input_ids.device, dtype=torch.bool)
