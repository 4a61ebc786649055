"""`demo`: the starter project, from the untouched model to the merged one, in a window or in the terminal."""

import argparse
import time
from typing import Any

from qlora_studio.cli.chat_command import answers_of
from qlora_studio.cli.console import Console, has_display
from qlora_studio.cli.job_session import error_of
from qlora_studio.cli.train_command import new_run, runs_path, train_to_end, verdict
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.core.quantity import duration_text
from qlora_studio.core.run.activity import Phase
from qlora_studio.storage.presets import load_preset

PROMPT = "What should I pack for a walk in the hills?"


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `demo`."""
    demo = commands.add_parser(
        "demo",
        parents=[shared],
        help="train the starter model on the starter dataset, in a few minutes",
        description="Train the small starter model on the starter dataset, on any computer, in a few minutes, "
        "and show what it learned. With a display, in the window.",
    )
    demo.add_argument("--no-window", action="store_true", help="stay in the terminal, even with a display")
    demo.add_argument("--runs", metavar="DIR", help="folder to create the run's folder in")
    demo.add_argument("--prompt", default=PROMPT, help="what to ask both models at the end")
    demo.set_defaults(run=demo_run)


def demo_run(arguments: argparse.Namespace, console: Console) -> int:
    """Open the window with the starter project, or train it here."""
    if has_display() and not arguments.no_window:
        return int(arguments.open_window(True))
    started = time.monotonic()
    session = new_run(load_preset("starter"), runs_path(arguments.runs), console)
    state, summary = train_to_end(session)
    if state.failure is not None:
        return console.fail(error_of(state.failure), **summary)
    if session.interrupted or state.phase is not Phase.FINISHED:
        words = " ".join(verdict(state, summary, session.folder))
        raise StudioError(f"The demo was stopped before its end. {words}", kind=FailureKind.INTERRUPTED)
    answers = answers_of(session.folder, arguments.prompt, console, variants=["base", "tuned"], max_new_tokens=120)
    report = {
        "run_dir": summary["run_dir"],
        "adapter_dir": summary["adapter_dir"],
        "merged_dir": summary["merged_dir"],
        "eval_loss_before": summary["eval_loss_before"],
        "eval_loss_after": summary["eval_loss"],
        "prompt": arguments.prompt,
        "answer_base": answers["base"],
        "answer_tuned": answers["tuned"],
        "seconds": round(time.monotonic() - started, 3),
    }
    console.report(report)
    console.result(*_words(report).split("\n"))
    return ExitCode.OK


def _words(report: dict[str, Any]) -> str:
    return f"""
Trained and tried in {duration_text(report["seconds"])}.
Held-out loss: {report["eval_loss_before"]:.4f} before, {report["eval_loss_after"]:.4f} after.

Asked: {report["prompt"]}

Before: {report["answer_base"].strip()}

After:  {report["answer_tuned"].strip()}

Merged model: {report["merged_dir"]}
Run:          {report["run_dir"]}"""
