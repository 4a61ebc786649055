"""A chat with a run's model: base and tuned from one set of weights, streamed, until the user stops it."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from transformers import PreTrainedTokenizerBase

from qlora_studio.core.commands import Ask
from qlora_studio.core.events import Finished, TextGenerated
from qlora_studio.core.job import ChatJob
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.device import choose_device
from qlora_studio.engine.generation import answer
from qlora_studio.engine.saved_adapter import load_tuned
from qlora_studio.storage.run_folder import RunFolder

_POLL_SECONDS = 0.05


def run(job: ChatJob, context: JobContext) -> Finished:
    """Load the model, answer every `Ask`, end with `Stop`."""
    folder = RunFolder(job.run_dir)
    device = choose_device(folder.config(), context)
    context.phase("loading_model")
    model, tokenizer = load_tuned(folder, device, job.checkpoint, context)
    context.phase("ready")
    waiting: list[Ask] = []
    while not (context.stop_requested() or context.is_orphaned()):
        waiting += [command for command in context.commands() if isinstance(command, Ask)]
        if waiting:
            _answer(waiting.pop(0), model, tokenizer, context, waiting)
        else:
            time.sleep(_POLL_SECONDS)
    return Finished(status="stopped")


def _answer(ask: Ask, model: Any, tokenizer: PreTrainedTokenizerBase, context: JobContext, waiting: list[Ask]) -> None:
    def stopped() -> bool:
        waiting.extend(command for command in context.commands() if isinstance(command, Ask))
        return context.stop_requested()

    for variant in ask.variants:
        started = time.monotonic()
        with model.disable_adapter() if variant == "base" else nullcontext():
            text = answer(
                model,
                tokenizer,
                ask.messages,
                max_new_tokens=ask.max_new_tokens,
                temperature=ask.temperature,
                seed=ask.seed,
                on_text=_teller(ask.request, variant, context),
                stopped=stopped,
            )
        tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        seconds = time.monotonic() - started
        context.emit(
            TextGenerated(request=ask.request, variant=variant, text="", done=True, tokens=tokens, seconds=seconds)
        )


def _teller(request: int, variant: str, context: JobContext) -> Callable[[str], None]:
    return lambda text: context.emit(TextGenerated(request=request, variant=variant, text=text))
