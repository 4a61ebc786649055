"""`watch` and `runs`: look at runs without touching them."""

import argparse
import time
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.job_session import states
from qlora_studio.cli.progress import Progress
from qlora_studio.cli.train_command import existing_run, runs_path, status_of, summary_of
from qlora_studio.core.errors import ExitCode, StudioError
from qlora_studio.core.run.events import Event, StepDone
from qlora_studio.core.run.run_state import RunState
from qlora_studio.jobs.elsewhere.mirror_process import require_mirror
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.storage.run_care.run_label import read_label
from qlora_studio.storage.runs.run_folder import RunFolder, folder_name
from qlora_studio.storage.runs.run_index import RunIndex
from qlora_studio.storage.runs.run_summary import RunSummary
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
    runs.set_defaults(run=list_runs, only_looks=True)


def watch_run(arguments: argparse.Namespace, console: Console) -> int:
    """Follow a run to its end without being part of it."""
    folder = existing_run(arguments.run_dir)
    losses: dict[int, float] = {}
    state = RunState()
    require_mirror(folder)
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
    found = [_facts(folder, known) for folder, known in RunIndex().listed(runs_path(arguments.runs))]
    console.report({"runs": found})
    width = max((len(run["name"]) for run in found), default=0)
    for run in found:
        loss = "" if run["eval_loss"] is None else f"held-out loss {run['eval_loss']:.4f}"
        parent = f"  goes on from {run['parent']}" if run["parent"] else ""
        parent += "" if run["trusted"] is not False else "  (not trusted)"
        parent += "" if folder_name(run["title"]) in run["name"] else f"  called {run['title']}"
        parent += f"  [{', '.join(run['tags'])}]" if run["tags"] else ""
        words = "unreadable" if run["status"] == "unreadable" else run["words"]
        console.result(f"{run['name']:{width}}  {words:34}  {loss:22}  {run['run_dir']}{parent}")
        if remark := run["damage"] or (run["words"] if words == "unreadable" else ""):
            console.result(f"{'':{width}}  {' '.join(remark.split())[:_REMARK]}")
    if not found:
        console.result(f"There are no runs in {runs_path(arguments.runs)}.")
    return ExitCode.OK


def _facts(folder: RunFolder, known: RunSummary | StudioError) -> dict[str, Any]:
    if isinstance(known, StudioError):
        return _unreadable(folder, known)
    busy = known.phase.is_over or folder.is_busy()  # of a run that has ended nobody asks who is at work
    return {
        "name": folder.path.name,
        "run_dir": str(folder.path.resolve()),
        **_label_facts(folder, known.name),
        "status": status_of(known, busy=busy),
        "words": _words(known, busy),
        "trusted": objection(folder.path) is None,
        "steps": known.step,
        "total_steps": known.total_steps,
        "eval_loss": known.evaluation_loss,
        "energy_joules": known.energy or None,
        "adapter_dir": known.adapter_path or None,
        "last_event": known.last_event,
        "parent": known.parent or None,
        "damage": known.damage or None,
    }


def _unreadable(folder: RunFolder, error: StudioError) -> dict[str, Any]:
    """Return the same keys of a run that this version cannot read."""
    numbers = ("steps", "total_steps", "eval_loss", "energy_joules", "last_event")
    nothing = dict.fromkeys(("trusted", *numbers, "adapter_dir", "parent", "damage"))
    place = {"name": folder.path.name, "run_dir": str(folder.path.resolve())}
    words = f"{error.message} {error.advice}"
    return {**place, **_label_facts(folder, folder.path.name), "status": "unreadable", "words": words, **nothing}


def _label_facts(folder: RunFolder, given: str) -> dict[str, Any]:
    label = read_label(folder)
    return {"title": label.name or given, "tags": list(label.tags)}


def _words(state: RunState | RunSummary, busy: bool) -> str:
    status = status_of(state, busy=busy)
    steps = f", step {state.step} of {state.total_steps}" if state.total_steps else ""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(state.last_event)) if state.last_event else ""
    return f"{status}{steps}  {when}".rstrip()
