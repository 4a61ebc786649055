"""`train` and `resume`: a run from its config, or from where it stopped, followed to its end."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.job_session import JobSession, command_line, error_of, resume_command, run_job
from qlora_studio.cli.machines_options import add_machines, machines_of
from qlora_studio.cli.run_source import add_run_source, run_config
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import problems_before_start
from qlora_studio.core.errors import ExitCode, FailureKind, InvalidRunConfig, StudioError
from qlora_studio.core.path_text import whole_path
from qlora_studio.core.quantity import counted, duration_text
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import AcceptChanges, Command, LowerRate
from qlora_studio.core.run.events import Event, StepDone
from qlora_studio.core.run.job import MachineJob
from qlora_studio.core.run.machines import Machines
from qlora_studio.core.run.run_state import RunState
from qlora_studio.jobs.elsewhere.mirror_process import require_mirror
from qlora_studio.jobs.elsewhere.submission import submit_again
from qlora_studio.storage.datasets.files import hub_name, locate_dataset
from qlora_studio.storage.models.location import locate_model
from qlora_studio.storage.run_care.run_label import read_label
from qlora_studio.storage.runs.elsewhere_record import read_record
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder, run_folders
from qlora_studio.storage.runs.run_summary import RunSummary
from qlora_studio.storage.settings import load_settings

_NAMED = 4  # of several runs that a word may mean


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `train` and `resume`."""
    train = commands.add_parser(
        "train",
        parents=[shared],
        help="train a run",
        description="Train a run: from a run file, from a preset, or with the defaults and --model and --data. "
        "Ctrl-C saves what was learned so far and ends; a second Ctrl-C ends at once.",
    )
    add_run_source(train)
    train.add_argument("--runs", metavar="DIR", help="folder to create the run's folder in")
    add_machines(train)
    train.set_defaults(run=train_run)
    resume = commands.add_parser(
        "resume",
        parents=[shared],
        help="go on with a run that was paused, stopped or lost its worker",
        description="Go on with a run from its newest checkpoint that is proven whole.",
    )
    resume.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder")
    resume.add_argument(
        "--lower-rate",
        action="store_true",
        help="with half the learning rate from here on, after a loss that became infinite",
    )
    resume.add_argument(
        "--accept-changes",
        action="store_true",
        help="even if the base model or the dataset is another one now; the run keeps a record of it",
    )
    resume.add_argument(
        "--gpus",
        metavar="CARD",
        default="",
        help="this time on another card than the run's hardware.gpus: auto, all, cpu, a number or a UUID",
    )
    add_machines(resume)
    resume.set_defaults(run=resume_run)


def train_run(arguments: argparse.Namespace, console: Console) -> int:
    """Create a run's folder and train in it; on another machine than the first, train along with that."""
    config, machines = run_config(arguments), machines_of(arguments)
    if machines is not None and machines.number:
        check_run(config)
        run_job(MachineJob(config=config, machines=machines), console)
        console.report({"machine": machines.number, "status": "completed"})
        console.result(f"Machine {machines.number} is done: machine 0 has ended the training.")
        return ExitCode.OK
    return _train(new_run(config, runs_path(arguments.runs), console, machines), console)


def resume_run(arguments: argparse.Namespace, console: Console) -> int:
    """Go on in a run's folder."""
    folder, machines = existing_run(arguments.run_dir), machines_of(arguments)
    if machines is not None and machines.number:
        raise StudioError(
            "A run is resumed on machine 0, which has it.",
            kind=FailureKind.USAGE,
            advice="Start the others as before: qlora-studio train RUN.toml --machine …",
        )
    config = folder.config()  # a broken one, or of a newer version, is refused before anything is written there
    gpus = config.with_value("hardware.gpus", arguments.gpus).hardware.gpus if arguments.gpus else ""
    if folder.state().phase is Phase.FINISHED:
        raise StudioError(
            f"{folder.path.name} is complete: there is nothing left to train.",
            kind=FailureKind.ALREADY_FINISHED,
            advice="Export it, chat with it, or begin a new run with more epochs.",
        )
    initial_commands: list[Command] = [LowerRate()] if arguments.lower_rate else []
    initial_commands += [AcceptChanges()] if arguments.accept_changes else []
    if (record := read_record(folder.path)) is not None:
        return _resume_elsewhere(folder, record.place, initial_commands, console)
    return _train(JobSession(folder, console, initial_commands, gpus=gpus, machines=machines), console)


def _resume_elsewhere(folder: RunFolder, place: str, terms: Sequence[Command], console: Console) -> int:
    """Submit a run again that is on another computer."""
    console.if_interrupted("Whether it was submitted is not known.")
    with console.interruption.stopping() as stop:
        submit_again(folder, terms, stop=stop)
    console.if_interrupted(f"It is submitted on {place}.")
    console.interruption.raise_if_any()
    require_mirror(folder)
    console.report({"run_dir": str(folder.path.resolve()), "place": place})
    console.result(f"Submitted again on {place}. Follow it: {command_line('watch', folder)}")
    return ExitCode.OK


def new_run(config: RunConfig, runs: Path, console: Console, machines: Machines | None = None) -> JobSession:
    """Create the folder of a run and start its worker. Raises StudioError with everything that keeps it from that."""
    check_run(config)
    with console.interruption.held():
        folder = create_run_folder(runs, config)
        console.say(f"Run: {folder.path}")
        return JobSession(folder, console, machines=machines, is_new=True)


def _train(session: JobSession, console: Console) -> int:
    """Follow a run to its end, report, and return the exit code."""
    state, summary = train_to_end(session)
    if state.failure is not None:
        return console.fail(error_of(state.failure), **summary)
    console.report(summary)
    console.result(*verdict(state, summary, session.folder))
    return ExitCode.OK


def train_to_end(session: JobSession) -> tuple[RunState, dict[str, Any]]:
    """Follow a run to its end; return its last state and the summary."""
    losses: dict[int, float] = {}

    def note_loss(event: Event) -> None:
        if isinstance(event, StepDone) and event.loss is not None:
            losses[event.step] = event.loss

    state = session.follow(note_loss)
    return state, summary_of(session.folder, state, losses, session.seconds)


def summary_of(folder: RunFolder, state: RunState, losses: dict[int, float], seconds: float) -> dict[str, Any]:
    """Return what `--json` prints of a run. `train_loss` is the mean over its steps."""
    environment, early = state.environment, state.stopped_early
    merged = [export.path for export in state.exports if export.format == "safetensors"]
    return {
        "run_dir": str(folder.path.resolve()),
        "status": status_of(state),
        "steps": state.step,
        "train_loss": sum(losses.values()) / len(losses) if losses else None,
        "eval_loss": state.evaluation.loss if state.evaluation else None,
        "eval_loss_before": state.first_evaluation.loss if state.first_evaluation else None,
        "stopped_early": {"step": early.step, "evaluations": early.evaluations} if early else None,
        "adapter_dir": state.adapter_path or None,
        "merged_dir": merged[-1] if merged else None,
        "seconds": round(seconds, 3),
        "environment": environment.model_dump(exclude={"version", "time", "type"}) if environment else None,
    }


def status_of(state: RunState | RunSummary, *, busy: bool = True) -> str:
    """Return how a run stands, as a word; one that should be at work and has no worker was lost."""
    if not state.phase.is_over and not busy:
        return "lost"
    if state.failure_kind == FailureKind.INTERRUPTED:
        return "interrupted"
    return "completed" if state.phase is Phase.FINISHED else str(state.phase)


def check_run(config: RunConfig) -> None:
    """Raise StudioError with everything that keeps a run from being started."""
    if problems := problems_before_start(config):
        raise InvalidRunConfig(problems)
    locate_model(config.model.source, config.model.revision)
    for source in (*config.data.sources, *filter(None, [config.data.evaluation])):
        if not hub_name(source.path):
            locate_dataset(source)


def existing_run(named: str) -> RunFolder:
    """Return the run that is meant: by its folder, by its name, or by how either begins where no other does.

    Raises StudioError where there is none, or more than one.
    """
    folder = RunFolder(whole_path(named))
    if os.path.lexists(folder.config_path):
        return folder
    found = _runs_named(named) if named and Path(named).name == named else []
    if len(found) == 1:
        return found[0]
    several = ", ".join(run.path.name for run in found[:_NAMED])
    raise StudioError(
        f"{named} may be one of {len(found)} runs: {several}."
        if found
        else f"{named} is not a run: it has no run.toml.",
        kind=FailureKind.USAGE if found else FailureKind.RUN_NOT_FOUND,
        advice="`qlora-studio runs` lists the runs with their folders.",
    )


def _runs_named(text: str) -> list[RunFolder]:
    """Return the runs of the settings' folder of a name; without any, those of which one begins like that.

    A name is the folder's, that of the settings, or what the user calls the run.
    """
    runs = run_folders(runs_path(None))
    names = {
        run.path: (run.path.name, run.path.name.partition("-")[2].partition("-")[2], read_label(run).name)
        for run in runs
    }
    whole = [run for run in runs if text in names[run.path]]
    return whole or [run for run in runs if any(name.startswith(text) for name in names[run.path])]


def runs_path(named: str | None) -> Path:
    """Return the folder of runs: the one named, or that of the settings."""
    return whole_path(named) if named else load_settings().runs_path


def verdict(state: RunState, summary: dict[str, Any], folder: RunFolder) -> list[str]:
    """Return what came of a run, in lines."""
    before, after = summary["eval_loss_before"], summary["eval_loss"]
    ways = {"completed": "Trained", "paused": "Paused after", "stopped": "Stopped after"}
    way = ways.get(summary["status"], summary["status"])
    lines = [f"{way} {counted(summary['steps'], 'step')} in {duration_text(summary['seconds'])}."]
    if state.stopped_early is not None:
        lines.append(state.stopped_early.words)
    if before is not None and after is not None:
        lines.append(f"Held-out loss: {before:.4f} before, {after:.4f} after.")
    if summary["adapter_dir"]:
        lines.append(f"Adapter: {summary['adapter_dir']}")
    if summary["merged_dir"]:
        lines.append(f"Merged model: {summary['merged_dir']}")
    if summary["status"] in ("paused", "stopped"):
        if not summary["adapter_dir"]:
            lines.append(f"{state.checkpoint.name} is safe." if state.checkpoint else "Nothing was trained yet.")
        lines.append(f"Go on with: {resume_command(folder)}")
    return lines
