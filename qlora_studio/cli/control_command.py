"""What is asked of a run at work, `pause`, `stop`, `save`, `evaluate-now`; `end` and `discard` where nobody answers."""

import argparse
import threading
from dataclasses import dataclass
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.job_session import error_of, resume_command
from qlora_studio.cli.train_command import existing_run, status_of
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.core.quantity import counted
from qlora_studio.core.run import commands as ask
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import CheckpointSaved, Evaluated, Event, Failed, Finished, Paused
from qlora_studio.core.run.run_state import RunState, reduce
from qlora_studio.jobs.elsewhere.mirror_process import require_mirror
from qlora_studio.jobs.run_follower import RunFollower
from qlora_studio.jobs.worker_ending import acknowledge_breakdown, end_worker
from qlora_studio.storage.run_care.removal import remove_for_ever
from qlora_studio.storage.runs.run_folder import RunFolder

_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class Request:
    """Something to ask of a worker, and the event that answers it."""

    name: str
    command: ask.Command
    answer: type[Event]
    help: str
    description: str


_REQUESTS = (
    Request(
        "pause",
        ask.Pause(),
        Paused,
        "make a run's work safe and free the card",
        "Ask the worker to save a checkpoint and to end. `resume` goes on from there.",
    ),
    Request(
        "stop",
        ask.Stop(),
        Finished,
        "end a run and keep what it has learned",
        "Ask the worker to save the adapter as it is and to end.",
    ),
    Request(
        "save",
        ask.SaveCheckpoint(),
        CheckpointSaved,
        "save a checkpoint of a run now",
        "Ask the worker to save a checkpoint after the current step, and to go on.",
    ),
    Request(
        "evaluate-now",
        ask.EvaluateNow(),
        Evaluated,
        "measure a run's held-out rows now",
        "Ask the worker to measure the held-out rows after the current step, and to go on.",
    ),
)


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add what is asked of a worker, `end` and `discard`."""
    for request in _REQUESTS:
        parser = _parser(commands, shared, request.name, request.help, request.description)
        parser.add_argument(
            "--timeout",
            type=float,
            default=_TIMEOUT_SECONDS,
            metavar="SECONDS",
            help="how long to wait for the answer (default: 600)",
        )
        if request.name == "stop":
            parser.add_argument("--no-save", action="store_true", help="throw away what no checkpoint holds")
        parser.set_defaults(run=ask_worker, request=request)
    end = _parser(
        commands,
        shared,
        "end",
        "end a worker that does not answer",
        "End a run's worker without its help. What no checkpoint holds is lost; `resume` goes on from the newest.",
    )
    end.set_defaults(run=end_run)
    discard = _parser(
        commands,
        shared,
        "discard",
        "put away a run that broke off",
        "Decide about a run whose worker died without a word.",
    )
    way = discard.add_mutually_exclusive_group(required=True)
    way.add_argument("--keep", action="store_true", help="keep it, and put on record that it broke off")
    way.add_argument("--yes", action="store_true", help="delete its folder, checkpoints and all, for ever")
    discard.set_defaults(run=discard_run)


def ask_worker(arguments: argparse.Namespace, console: Console) -> int:
    """Ask, wait for the answer, and say what came of it."""
    request: Request = arguments.request
    folder = existing_run(arguments.run_dir)
    folder.config()  # one of a newer version is refused before anything is written there
    follower = RunFollower(folder, from_start=False)  # made before the question, so that no answer is missed
    before = folder.state()
    require_mirror(folder)
    _require_worker(folder, before)
    if isinstance(request.command, ask.EvaluateNow):
        _require_held_out_rows(before)
    console.if_interrupted(f"Nothing was asked of {folder.path.name}.")
    unsaved = isinstance(request.command, ask.Stop) and arguments.no_save
    with console.interruption.held():
        folder.send(ask.Stop(save=False) if unsaved else request.command)
        console.if_interrupted(f"{folder.path.name} was asked to {_verb(request)}, and does it, whoever waits for it.")
    console.say(f"Asked {folder.path.name}: {request.name}. It answers after the step that it is at.")
    state, event = _answer(follower, before, request.answer, arguments.timeout)
    return _tell_answer(request, folder, state, event, console)


def end_run(arguments: argparse.Namespace, console: Console) -> int:
    """End the worker, and say what is safe."""
    folder = existing_run(arguments.run_dir)
    folder.config()
    state = folder.state()
    _require_worker(folder, state)
    console.if_interrupted("Its worker was asked to end and may not have ended: the same command makes sure.")
    if not end_worker(folder, state.pid):
        raise StudioError(
            f"The worker of {folder.path.name} (process {state.pid}) cannot be ended.",
            kind=FailureKind.RUN_BUSY,
            advice="It may belong to another user or another computer, or hang in a driver: restarting helps then.",
        )
    console.if_interrupted("Its worker is ended.")
    safe = state.checkpoint
    console.report({**_facts(folder, folder.state()), "checkpoint": safe.name if safe else None})
    console.result(f"The worker is ended. {f'Safe: {safe.name}.' if safe else 'There is no checkpoint yet.'}")
    console.result(f"Go on with: {resume_command(folder)}")
    return ExitCode.OK


def discard_run(arguments: argparse.Namespace, console: Console) -> int:
    """Keep a run that broke off, on record as such, or delete its folder."""
    folder = existing_run(arguments.run_dir)
    folder.config()
    if folder.state().phase.is_over or folder.is_busy():
        raise StudioError(
            f"{folder.path.name} did not break off.",
            kind=FailureKind.USAGE,
            advice="Only a run whose worker died without a word is discarded: `qlora-studio runs` calls it lost.",
        )
    with console.interruption.held():
        console.if_interrupted(f"{folder.path.name} may be half deleted: the rest has a name with a dot before it.")
        if arguments.keep:
            acknowledge_breakdown(folder)
        else:
            remove_for_ever(folder)
        console.if_interrupted(f"{folder.path.name} is {'kept' if arguments.keep else 'deleted'}.")
    console.report({"run_dir": str(folder.path.absolute()), "deleted": not arguments.keep})
    console.result(f"{folder.path.name} is {'kept' if arguments.keep else 'deleted'}.")
    return ExitCode.OK


def _parser(commands: Any, shared: argparse.ArgumentParser, name: str, words: str, more: str) -> Any:
    parser = commands.add_parser(name, parents=[shared], help=words, description=more)
    parser.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder")
    return parser


def _require_worker(folder: RunFolder, state: RunState) -> None:
    if folder.is_busy() or state.phase is Phase.RECOVERING:
        return
    broke_off = not state.phase.is_over
    raise StudioError(
        f"No worker is at work in {folder.path.name}: {'it broke off' if broke_off else state.phase.words.lower()}.",
        kind=FailureKind.NOT_AT_WORK,
        advice=f"Go on with it: {resume_command(folder)}" if state.phase is not Phase.FINISHED else "",
    )


def _require_held_out_rows(state: RunState) -> None:
    if state.dataset is not None and not state.dataset.evaluation_rows:
        raise StudioError(
            "This run has no held-out rows to measure.",
            kind=FailureKind.USAGE,
            advice="Give the next run some: data.evaluation_share or data.evaluation_path.",
        )


def _answer(
    follower: RunFollower, state: RunState, wanted: type[Event], timeout: float
) -> tuple[RunState, Event | None]:
    """Return the state, and the event that answered or ended the session; None where none came in time."""
    late = threading.Event()
    timer = threading.Timer(timeout, late.set)
    timer.daemon = True
    timer.start()
    try:
        for batch in follower.batches(late):
            for event in batch:
                state = reduce(state, event)
                if isinstance(event, wanted | Paused | Finished | Failed):
                    return state, event
    finally:
        timer.cancel()
    return state, None


def _tell_answer(request: Request, folder: RunFolder, state: RunState, event: Event | None, console: Console) -> int:
    facts = _facts(folder, state)
    match event:
        case None:
            waiting = StudioError(
                f"{folder.path.name} has not answered yet.",
                kind=FailureKind.NO_ANSWER,
                advice="It was asked and may still do it: `watch` shows. If it hangs, `end` ends it.",
            )
            return console.fail(waiting, **facts)
        case Failed():
            return console.fail(error_of(event), **facts)
        case _ if not isinstance(event, request.answer):
            early = StudioError(
                f"{folder.path.name} ended before it could {_verb(request)}: {facts['status']}.",
                kind=FailureKind.NOT_AT_WORK,
            )
            return console.fail(early, **facts)
    console.report(facts)
    console.result(_words(folder, state, event))
    return ExitCode.OK


def _verb(request: Request) -> str:
    return request.name.replace("-", " ")


def _words(folder: RunFolder, state: RunState, event: Event) -> str:
    match event:
        case Paused():
            return f"Paused after {counted(event.step, 'step')}. Go on with: {resume_command(folder)}"
        case CheckpointSaved():
            return f"{event.name} is safe."
        case Evaluated():
            loss = "not a number" if event.loss is None else f"{event.loss:.4f}"
            return f"Step {event.step:,}: held-out loss {loss}."
    kept = f" Adapter: {state.adapter_path}" if state.training_over else " Nothing more was saved."
    return f"{state.phase.words} after {counted(state.step, 'step')}.{kept}"


def _facts(folder: RunFolder, state: RunState) -> dict[str, Any]:
    """Return what `--json` prints of a run that was asked something."""
    return {
        "run_dir": str(folder.path.resolve()),
        "status": status_of(state),
        "steps": state.step,
        "checkpoint": state.checkpoint.name if state.checkpoint else None,
        "eval_loss": state.evaluation.loss if state.evaluation else None,
        "adapter_dir": state.adapter_path or None,
    }
