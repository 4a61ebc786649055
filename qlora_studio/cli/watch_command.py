"""`watch` and `runs`: look at runs without touching them."""

import argparse
import time
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.job_session import states
from qlora_studio.cli.progress import Progress
from qlora_studio.cli.train_command import existing_run, runs_path, status_of, summary_of
from qlora_studio.core.errors import ExitCode, StudioError
from qlora_studio.core.run.events import UNREADABLE_LINES, Event, StepDone
from qlora_studio.core.run.run_state import RunState
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.storage.runs.run_folder import RunFolder, run_folders
from qlora_studio.storage.runs.trust import objection

_REMARK = 300  # letters


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `watch` and `runs`."""
    watch = commands.add_parser(
        "watch",
        parents=[shared],
        help="watch a run that trains elsewhere, or read an old one",
        description="Show a run from its beginning and go on until it ends. Ctrl-C leaves; the run goes on.",
    )
    watch.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder")
    watch.set_defaults(run=watch_run)
    runs = commands.add_parser(
        "runs", parents=[shared], help="list the runs", description="List the runs, the newest first."
    )
    runs.add_argument("--runs", metavar="DIR", help="the folder of runs (default: that of the settings)")
    runs.set_defaults(run=list_runs)


def watch_run(arguments: argparse.Namespace, console: Console) -> int:
    """Follow a run to its end without being part of it."""
    folder = existing_run(arguments.run_dir)
    losses: dict[int, float] = {}
    state = RunState()
    console.if_interrupted(
        f"{folder.path.name} goes on." if folder.is_busy() else f"{folder.path.name} is as it was: nothing was changed."
    )

    def note_loss(event: Event) -> None:
        if isinstance(event, StepDone) and event.loss is not None:
            losses[event.step] = event.loss

    with Progress(console) as progress:
        for state in states(RunFollower(folder), progress, note_loss):  # noqa: B007  the last one counts
            pass
    seconds = state.last_event - state.started if state.started else 0.0
    summary = summary_of(folder, state, losses, seconds)
    if state.failure is not None:
        summary["error"] = {"kind": state.failure.kind, "message": state.failure.message}
        told, busy = folder.state(), folder.is_busy()  # a death that nobody put on record is no failure of the run's
        state, summary["status"] = told, status_of(told, busy=busy)
    console.report(summary)
    console.result(f"{folder.path.name}: {_words(state, busy=False)}")
    if state.stopped_early is not None:
        console.result(state.stopped_early.words)
    return ExitCode.OK


def list_runs(arguments: argparse.Namespace, console: Console) -> int:
    """Print a line a run."""
    console.if_interrupted("Nothing was changed.")
    found = [_facts(folder) for folder in run_folders(runs_path(arguments.runs))]
    console.report({"runs": found})
    width = max((len(run["name"]) for run in found), default=0)
    for run in found:
        loss = "" if run["eval_loss"] is None else f"held-out loss {run['eval_loss']:.4f}"
        parent = f"  goes on from {run['parent']}" if run["parent"] else ""
        parent += "" if run["trusted"] is not False else "  (not trusted)"
        words = "unreadable" if run["status"] == "unreadable" else run["words"]
        console.result(f"{run['name']:{width}}  {words:34}  {loss:22}  {run['run_dir']}{parent}")
        if remark := run["damage"] or (run["words"] if words == "unreadable" else ""):
            console.result(f"{'':{width}}  {' '.join(remark.split())[:_REMARK]}")
    if not found:
        console.result(f"There are no runs in {runs_path(arguments.runs)}.")
    return ExitCode.OK


def _facts(folder: RunFolder) -> dict[str, Any]:
    try:
        folder.config()
        state, busy = folder.state(), folder.is_busy()
    except StudioError as error:
        return _unreadable(folder, error)
    return {
        "name": folder.path.name,
        "run_dir": str(folder.path.resolve()),
        "status": status_of(state, busy=busy),
        "words": _words(state, busy),
        "trusted": objection(folder.path) is None,
        "steps": state.step,
        "total_steps": state.total_steps,
        "eval_loss": state.evaluation.loss if state.evaluation else None,
        "adapter_dir": state.adapter_path or None,
        "last_event": state.last_event,
        "parent": state.parent.words if state.parent else None,
        "damage": next((warning.message for warning in state.warnings if warning.kind == UNREADABLE_LINES), None),
    }


def _unreadable(folder: RunFolder, error: StudioError) -> dict[str, Any]:
    """Return the same keys of a run that this version cannot read."""
    nothing = dict.fromkeys(
        ("trusted", "steps", "total_steps", "eval_loss", "adapter_dir", "last_event", "parent", "damage")
    )
    place = {"name": folder.path.name, "run_dir": str(folder.path.resolve())}
    return {**place, "status": "unreadable", "words": f"{error.message} {error.advice}", **nothing}


def _words(state: RunState, busy: bool) -> str:
    status = status_of(state, busy=busy)
    steps = f", step {state.step} of {state.total_steps}" if state.total_steps else ""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(state.last_event)) if state.last_event else ""
    return f"{status}{steps}  {when}".rstrip()
