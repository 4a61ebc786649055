"""`chat`: prompts to a run's model, base and tuned, answered as they are written."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.job_session import checked, job_session
from qlora_studio.cli.train_command import existing_run
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.core.run.commands import Ask, Stop
from qlora_studio.core.run.events import Event, TextGenerated
from qlora_studio.core.run.job import ANSWER_WAYS, CHAT_VARIANTS, ChatJob
from qlora_studio.storage.runs.run_folder import RunFolder


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `chat`."""
    chat = commands.add_parser(
        "chat",
        parents=[shared],
        help="ask a run's model",
        description="Ask a run's model. Without --prompt, every line of the input is a prompt.",
    )
    chat.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder")
    chat.add_argument("--prompt", help="what to ask")
    chat.add_argument("--system", default="", help="a system message before the prompt")
    chat.add_argument(
        "--variant",
        default="tuned",
        metavar="V",
        help="which models answer: tuned, base, merged, gguf, with commas; both for base,tuned (default: tuned)",
    )
    chat.add_argument("--checkpoint", default="best", help="best, final, last or a step (default: best)")
    chat.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help="longest answer (default: 256)")
    chat.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 always takes the likeliest word")
    chat.add_argument("--seed", type=int, default=42, help="of the choice of words, with a temperature")
    chat.set_defaults(run=chat_run)


def chat_run(arguments: argparse.Namespace, console: Console) -> int:
    """Answer one prompt, or each line of the input."""
    folder = existing_run(arguments.run_dir)
    variants = _variants(arguments.variant)
    prompts = [arguments.prompt] if arguments.prompt is not None else list(_lines(console))
    if not prompts:
        raise StudioError(
            "There is nothing to ask.", kind=FailureKind.USAGE, advice='Give --prompt "…", or lines on stdin.'
        )
    conversation = _Conversation(prompts, variants, arguments, console)
    job = ChatJob(run_dir=str(folder.path.resolve()), checkpoint=arguments.checkpoint)
    conversation.hold(job, folder)
    answers = conversation.answers
    told = {"prompt": prompts[0], "answers": answers[0], "conversations": _told(prompts, answers)}
    console.report(told | {"ways": conversation.ways})
    return ExitCode.OK


def _variants(text: str) -> list[str]:
    names = ["base", "tuned"] if text == "both" else [name.strip() for name in text.split(",") if name.strip()]
    if not names or set(names) - set(CHAT_VARIANTS):
        raise StudioError(
            f'"{text}" names no model of a run.',
            kind=FailureKind.USAGE,
            advice=f"There are {', '.join(CHAT_VARIANTS)}, and both.",
        )
    return list(dict.fromkeys(names))


def answers_of(
    folder: RunFolder, prompt: str, console: Console, *, variants: list[str], max_new_tokens: int = 256
) -> dict[str, str]:
    """Return what each variant of a run's model answers to a prompt. Raises StudioError where the worker fails."""
    settings = argparse.Namespace(system="", max_new_tokens=max_new_tokens, temperature=0.0, seed=42)
    conversation = _Conversation([prompt], variants, settings, console, aloud=False)
    conversation.hold(ChatJob(run_dir=str(folder.path.resolve())), folder)
    return conversation.answers[0]


class _Conversation:
    """Asks every prompt of one worker and collects the answers."""

    def __init__(
        self,
        prompts: list[str],
        variants: list[str],
        settings: argparse.Namespace,
        console: Console,
        *,
        aloud: bool = True,
    ) -> None:
        self.answers: list[dict[str, str]] = [dict.fromkeys(variants, "") for _ in prompts]
        self.ways: dict[str, str] = {}  # how models that do not answer as usual compute
        self._prompts = prompts
        self._variants = variants
        self._settings = settings
        self._console = console
        self._aloud = aloud
        self._open = len(prompts) * len(variants)

    def hold(self, job: ChatJob, run: RunFolder) -> None:
        """Start the worker, ask, and end it after the last answer."""
        session = job_session(job, self._console, run)
        for number, prompt in enumerate(self._prompts):
            session.folder.send(self._ask(number, prompt))
        checked(session.follow(lambda event: self._take(event, session.folder)))
        if self._open:
            raise StudioError("The chat ended before the answer did.", kind=FailureKind.INTERRUPTED)

    def _ask(self, number: int, prompt: str) -> Ask:
        system = [{"role": "system", "content": self._settings.system}] if self._settings.system else []
        return Ask(
            request=number,
            messages=[*system, {"role": "user", "content": prompt}],
            variants=self._variants,
            max_new_tokens=self._settings.max_new_tokens,
            temperature=self._settings.temperature,
            seed=self._settings.seed,
        )

    def _take(self, event: Event, folder: RunFolder) -> None:
        if not isinstance(event, TextGenerated):
            return
        answers = self.answers[event.request]
        if self._aloud:
            self._speak(event, is_first=not answers[event.variant])
        answers[event.variant] += event.text
        if event.done:
            self._tell_way(event)
            self._open -= 1
            if not self._open:
                folder.send(Stop())

    def _tell_way(self, event: TextGenerated) -> None:
        if event.way and self.ways.get(event.variant) != event.way:
            self.ways[event.variant] = event.way
            if self._aloud:
                self._console.say(f"({CHAT_VARIANTS[event.variant]}: {ANSWER_WAYS.get(event.way, event.way)}.)")

    def _speak(self, event: TextGenerated, *, is_first: bool) -> None:
        if is_first and not event.done and len(self._variants) > 1:
            self._console.stream(f"[{event.variant}] ")
        self._console.stream(f"{event.text}\n" if event.done else event.text)


def _lines(console: Console) -> Iterator[str]:
    if sys.stdin.isatty():
        console.say("Type your prompts, a line each; Ctrl-D ends.")
    yield from (line.strip() for line in sys.stdin if line.strip())


def _told(prompts: list[str], answers: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [{"prompt": prompt, "answers": answer} for prompt, answer in zip(prompts, answers, strict=True)]
