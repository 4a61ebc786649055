"""`queue`: runs that wait for their turn; put in, taken out, listed, and worked off one after another."""

import argparse
import time
from collections.abc import Sequence
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.train_command import check_run, existing_run, runs_path
from qlora_studio.core.comparison.sweep import swept, variation
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.core.quantity import counted
from qlora_studio.jobs.gpu_monitor import gpu_cards
from qlora_studio.jobs.queue_runner import QueueRunner, ended_phase, queue_summary
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.storage.runs.run_queue import RunQueue
from qlora_studio.storage.runs.trusted_run import TrustedRun

_POLL_SECONDS = 2.0


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `queue`."""
    queue = commands.add_parser(
        "queue",
        parents=[shared],
        help="let runs wait for their turn, and work them off",
        description="Put runs into the queue, or list it. A window that is open starts them; so does --work.",
    )
    queue.add_argument("run_dirs", metavar="RUN_DIR", nargs="*", help="runs to put in, at the end")
    queue.add_argument("--remove", action="store_true", help="take the runs out instead")
    queue.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="SECTION.FIELD=V,V…",
        help="put in not the run itself but new ones with its settings, one for each value, such as lora.rank=8,16; "
        "given again, one for each combination",
    )
    queue.add_argument("--work", action="store_true", help="start one run after another until none waits")
    queue.add_argument("--runs", metavar="DIR", help="the folder of runs (default: that of the settings)")
    queue.set_defaults(run=run_queue)


def run_queue(arguments: argparse.Namespace, console: Console) -> int:
    """Change the queue, work it off where asked, and say what waits."""
    queue = RunQueue(runs_path(arguments.runs))
    console.if_interrupted("The queue is as it was.")
    named = [existing_run(path) for path in arguments.run_dirs]
    configs = _swept(arguments, named) if arguments.over else ()
    folders: list[RunFolder] = [] if configs else named
    with console.interruption.held():
        folders += [create_run_folder(runs_path(arguments.runs), config) for config in configs]
        for folder in folders:
            if arguments.remove:
                queue.remove(folder)
            else:
                queue.add(folder)
        console.if_interrupted(_told(queue))
    ended = _work(queue, console) if arguments.work else []
    waiting = [run.path for run in queue.runs()]
    if queue.problem:
        console.say(queue.problem)
    created = [str(folder.path) for folder in folders] if configs else []
    console.report({"waiting": waiting, "ended": ended, "created": created})
    for place, path in enumerate(waiting, start=1):
        console.result(f"{place}. {path}")
    if not waiting:
        console.result("No run waits.")
    failed = any(run["status"] == "failed" for run in ended)
    return ExitCode.ERROR if failed else ExitCode.OK


def _swept(arguments: argparse.Namespace, named: Sequence[RunFolder]) -> tuple[RunConfig, ...]:
    """Return the settings of the runs that --over asks for. Raises StudioError, before anything is made."""
    if len(named) != 1 or arguments.remove:
        raise StudioError(
            "--over varies the settings of one run.",
            kind=FailureKind.USAGE,
            advice="Name the one run whose settings the new runs begin with, without --remove.",
        )
    configs = swept(TrustedRun(named[0].path).config(), [variation(text) for text in arguments.over])
    for config in configs:
        check_run(config)
    return configs


def _work(queue: RunQueue, console: Console) -> list[dict[str, str]]:
    """Start the runs that wait, one after another; return how each ended. Ctrl-C leaves; a started run goes on."""
    runner = QueueRunner(queue, gpu_cards)
    started: list[RunFolder] = []
    while queue.runs() or runner.current:
        with console.interruption.held():
            process = runner.start_next()
            if process is not None:
                started.append(process.folder)
                console.say(f"Started {process.folder.path.name}.")
            console.if_interrupted(_told(queue, [folder.path.name for folder in runner.current]))
        time.sleep(_POLL_SECONDS)
    for _, error in runner.failures:
        console.say(error.message)
    if started:
        console.say(queue_summary(started))
    return [{"run_dir": str(folder.path), "status": str(ended_phase(folder))} for folder in started]


def _told(queue: RunQueue, at_work: Sequence[str] = ()) -> str:
    """Return how the queue is left: a run that was started goes on by itself, and those that wait go on waiting."""
    words = [f"{' and '.join(at_work)} {'goes' if len(at_work) == 1 else 'go'} on."] if at_work else []
    waiting = len(queue.runs())
    return " ".join([*words, f"{counted(waiting, 'run')} {'waits' if waiting == 1 else 'wait'} in the queue."])
