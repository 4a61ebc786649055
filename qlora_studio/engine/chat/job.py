"""A chat with a run's models, streamed, until the user stops it: the same prompt and the same seed for each."""

import time
from collections.abc import Callable

from qlora_studio.core.run.commands import Ask, EndAnswers
from qlora_studio.core.run.events import Finished, TextGenerated
from qlora_studio.core.run.job import ChatJob
from qlora_studio.engine.chat.models import ChatModels
from qlora_studio.engine.context import QUIET, Channel, Commands, JobContext, Reporter
from qlora_studio.engine.model.device import choose_device
from qlora_studio.storage.runs.trusted_run import TrustedRun

_POLL_SECONDS = 0.05


def run(job: ChatJob, context: JobContext) -> Finished:
    """Answer every `Ask`, each by the models that it names, until `EndAnswers`; end with `Stop`."""
    models = ChatModels(job, choose_device(TrustedRun(job.run_dir).config(), QUIET), context)
    waiting: list[Ask] = []
    try:
        while not (context.stop_requested() or context.is_orphaned()):
            _take(context, waiting)
            if waiting:
                _answer(waiting.pop(0), models, context, waiting)
            else:
                time.sleep(_POLL_SECONDS)
    finally:
        models.close()
    return Finished(status="stopped")


def _answer(ask: Ask, models: ChatModels, channel: Channel, waiting: list[Ask]) -> None:
    ended = False

    def stopped() -> bool:
        nonlocal ended
        ended = _take(channel, waiting) or ended
        return ended or channel.stop_requested()

    for variant in ask.variants:
        if stopped():
            return
        with models.answering(variant) as chosen:
            started = time.monotonic()
            text = chosen.answer(ask, _teller(ask.request, variant, channel), stopped)
            seconds = time.monotonic() - started
            tokens = len(chosen.tokenizer(text, add_special_tokens=False)["input_ids"])
        channel.emit(
            TextGenerated(
                request=ask.request,
                variant=variant,
                text="",
                done=True,
                tokens=tokens,
                seconds=seconds,
                way=chosen.way,
            )
        )


def _take(commands: Commands, waiting: list[Ask]) -> bool:
    """Keep what is asked now; return whether the user wants no more of what was asked before."""
    ended = False
    for command in commands.commands():
        if isinstance(command, EndAnswers):
            ended = True
            waiting.clear()
        elif isinstance(command, Ask):
            waiting.append(command)
    return ended


def _teller(request: int, variant: str, reporter: Reporter) -> Callable[[str], None]:
    return lambda text: reporter.emit(TextGenerated(request=request, variant=variant, text=text))
