"""`elsewhere`: places whose SLURM takes runs, and runs that are sent there, followed, cancelled and fetched.

What is asked of a run at work, `pause`, `stop`, `save`, `watch`, is asked by the commands that every run has.
"""

import argparse
import time
from typing import Any

from qlora_studio import __version__
from qlora_studio.cli.console import Console
from qlora_studio.cli.job_session import error_of
from qlora_studio.cli.machines_options import add_machines, machines_of, meet_by
from qlora_studio.cli.run_source import add_run_source, run_config
from qlora_studio.cli.train_command import check_run, existing_run, runs_path
from qlora_studio.cli.watch_command import watch_run
from qlora_studio.core.elsewhere.place import place_from, place_settings
from qlora_studio.core.elsewhere.told import detail_words, elsewhere_words
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.commands import AcceptChanges, Command, LowerRate
from qlora_studio.core.run.machines import Machines
from qlora_studio.core.run.message import PROTOCOL_VERSION
from qlora_studio.jobs.batch_work import help_in_job, work_in_job
from qlora_studio.jobs.elsewhere.acts import cancel_job, fetch
from qlora_studio.jobs.elsewhere.mirror_process import require_mirror
from qlora_studio.jobs.elsewhere.place_check import PlaceReport, check_place
from qlora_studio.jobs.elsewhere.sending import Sending, plan_sending
from qlora_studio.jobs.elsewhere.submission import submit, submit_again
from qlora_studio.storage.places import load_places, place_named, remove_place, save_place
from qlora_studio.storage.runs.elsewhere_record import read_record, read_told
from qlora_studio.storage.runs.run_folder import RunFolder

_NOT_SUBMITTED = "Nothing was submitted."
_NOT_KNOWN = "Whether it was submitted is not known; what was sent may be left there."


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `elsewhere` and what it can do."""
    elsewhere = commands.add_parser(
        "elsewhere",
        parents=[shared],
        help="train runs on a cluster, by SLURM over your own ssh",
        description="Send runs to a place, another computer whose SLURM takes jobs, and follow them from here. "
        "docs/ELSEWHERE.md says how.",
    )
    acts = elsewhere.add_subparsers(dest="act", metavar="ACT", title="acts", required=True)
    _add_places(acts, shared)
    _add_runs(acts, shared)
    _add_there(acts, shared)


def _add_places(acts: Any, shared: argparse.ArgumentParser) -> None:
    places = acts.add_parser("places", parents=[shared], help="list the places")
    places.set_defaults(run=list_places, only_looks=True)
    add = acts.add_parser("add", parents=[shared], help="write a place down, or change one")
    add.add_argument("name", type=str.strip, metavar="NAME", help="what you call it")
    for info in place_settings():
        if info.name != "name":
            option = f"--{info.name.replace('_', '-')}"
            add.add_argument(option, dest=info.name, metavar="…", help=info.help.replace("%", "%%"))
    add.set_defaults(run=add_place)
    forget = acts.add_parser("forget", parents=[shared], help="forget a place; runs that are there go on")
    forget.add_argument("name", type=str.strip, metavar="NAME")
    forget.set_defaults(run=forget_place)
    check = acts.add_parser("check", parents=[shared], help="reach a place and say what is there")
    check.add_argument("name", type=str.strip, metavar="NAME")
    check.set_defaults(run=check_named, only_looks=True)


def _add_runs(acts: Any, shared: argparse.ArgumentParser) -> None:
    send = acts.add_parser(
        "submit",
        parents=[shared],
        help="send a run and submit it; a run that is there already goes on",
        description="Send a run, its settings and the data that they name, and submit it. A run's folder that is named "
        "and was sent before is submitted again: it goes on from its newest safe checkpoint there.",
    )
    add_run_source(send)
    send.add_argument(
        "--place", type=str.strip, metavar="NAME", default="", help="where to; not needed where there is one place only"
    )
    send.add_argument("--model-there", metavar="PATH", default="", help="where the base model lies there")
    send.add_argument(
        "--trust-network",
        action="store_true",
        help="of a place with several nodes: everybody who reaches their interface is trusted",
    )
    send.add_argument("--runs", metavar="DIR", help="folder to create the run's folder in here")
    send.add_argument("--show", action="store_true", help="say what would be sent, and the job script; send nothing")
    send.add_argument("--follow", action="store_true", help="and follow it to its end")
    _add_terms(send)
    send.set_defaults(run=submit_run)
    for name, words, act in (
        ("follow", "follow a run to its end, as `watch` does", follow_run),
        ("cancel", "take a run's job away from the scheduler", cancel_run),
    ):
        parser = acts.add_parser(name, parents=[shared], help=words)
        parser.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder here")
        parser.set_defaults(run=act)
    bring = acts.add_parser("fetch", parents=[shared], help="bring a run's adapter or a checkpoint here")
    bring.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder here")
    bring.add_argument("--checkpoint", default="final", metavar="C", help="final (default), best, last or a step")
    bring.set_defaults(run=fetch_run)


def _add_there(acts: Any, shared: argparse.ArgumentParser) -> None:
    about = acts.add_parser("about", parents=[shared], help="say this program's version, as places are asked")
    about.set_defaults(run=tell_about, only_looks=True)
    work = acts.add_parser("work", parents=[shared], help="train a run that was sent here; job scripts say this")
    work.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder")
    work.add_argument("--sha256", required=True, metavar="HASH", help="of the run.toml that was submitted")
    work.add_argument("--meet-by", metavar="FILE", help="in the run's folder: where the nodes of a job find each other")
    _add_terms(work)
    add_machines(work)
    work.set_defaults(run=work_here)


def _add_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lower-rate", action="store_true", help="go on with half the learning rate")
    parser.add_argument("--accept-changes", action="store_true", help="go on even if base or dataset changed")


def list_places(arguments: argparse.Namespace, console: Console) -> int:
    """Print a line a place."""
    places = load_places()
    console.report({"places": [place.model_dump() for place in places]})
    for place in places:
        console.result(
            f"{place.name}: {place.host or 'this computer'}, {place.folder}, {place.time}, cards {place.cards}"
        )
    if not places:
        console.result("There are no places. Write one down: qlora-studio elsewhere add NAME --host HOST")
    return ExitCode.OK


def add_place(arguments: argparse.Namespace, console: Console) -> int:
    """Write a place down; of one that is known, only what is given changes."""
    known = next((place for place in load_places() if place.name == arguments.name), None)
    given = {info.name: getattr(arguments, info.name) for info in place_settings() if info.name != "name"}
    changes = {name: value for name, value in given.items() if value is not None}
    place = place_from({**(known.model_dump() if known else {"name": arguments.name}), **changes})
    with console.interruption.held():
        save_place(place)
    console.report({"place": place.model_dump()})
    console.result(f"{place.name} is written down. Try it: qlora-studio elsewhere check {place.name}")
    return ExitCode.OK


def forget_place(arguments: argparse.Namespace, console: Console) -> int:
    """Forget a place."""
    place_named(arguments.name)
    with console.interruption.held():
        remove_place(arguments.name)
    console.report({"forgotten": arguments.name})
    console.result(f"{arguments.name} is forgotten.")
    return ExitCode.OK


def check_named(arguments: argparse.Namespace, console: Console) -> int:
    """Reach a place and say what is there."""
    report = check_place(place_named(arguments.name))
    facts = {
        "home": report.home,
        "studio": report.studio or None,
        "partitions": [vars(item) for item in report.partitions],
        "problems": list(report.problems),
        "remarks": list(report.remarks),
    }
    console.report({"place": arguments.name, **facts})
    console.result(*_words(arguments.name, report))
    return ExitCode.OK if report.is_well else ExitCode.NOT_REACHED


def _words(name: str, report: PlaceReport) -> list[str]:
    lines = [f"{name} was reached; runs go to {report.home}."]
    lines += [f"QLoRA Studio {report.studio} is there."] if report.studio else []
    for item in report.partitions:
        cards = item.cards or "no cards"
        up = "" if item.is_up else ", down"
        lines.append(f"Partition {item.name}: {item.nodes} nodes, {cards}, at most {item.time_limit}{up}")
    return [*lines, *report.remarks, *report.problems]


def submit_run(arguments: argparse.Namespace, console: Console) -> int:
    """Send a run, or submit one again that is there."""
    folder = _sent_before(arguments)
    console.if_interrupted(_NOT_SUBMITTED)
    if folder is not None:
        with console.interruption.stopping() as stop:
            console.if_interrupted(_NOT_KNOWN)
            submit_again(folder, _terms(arguments), trusts=arguments.trust_network, stop=stop)
    else:
        sending = _sending(arguments)
        console.say(*sending.notes)
        if arguments.show:
            return _show(sending, console)
        with console.interruption.stopping() as stop:
            console.if_interrupted(_NOT_KNOWN)
            folder = submit(sending, runs_path(arguments.runs), stop)
    console.if_interrupted(f"The run is submitted: {folder.path}")
    console.interruption.raise_if_any()
    require_mirror(folder)
    record = read_record(folder.path)
    assert record is not None
    console.say(f"Job {record.job} on {record.place}. Run: {folder.path}")
    if arguments.follow:
        return watch_run(argparse.Namespace(run_dir=str(folder.path)), console)
    console.report({"run_dir": str(folder.path.resolve()), "place": record.place, "job": record.job})
    console.result(f"Submitted. Follow it: qlora-studio elsewhere follow {folder.path}")
    return ExitCode.OK


def _sent_before(arguments: argparse.Namespace) -> RunFolder | None:
    """Return the run that is named where it was sent before."""
    if not arguments.run_file:
        return None
    try:
        folder = existing_run(arguments.run_file)
    except StudioError:
        return None
    return folder if read_record(folder.path) is not None else None


def _sending(arguments: argparse.Namespace) -> Sending:
    config = run_config(arguments)
    if not arguments.model_there:
        check_run(config)
    places = load_places()
    if not arguments.place and len(places) != 1:
        raise StudioError(
            "Say where to: --place NAME." if places else "There is no place to send a run to.",
            kind=FailureKind.USAGE,
            advice="`qlora-studio elsewhere places` lists them, `elsewhere add` writes one down.",
        )
    place = place_named(arguments.place) if arguments.place else places[0]
    return plan_sending(config, place, model=arguments.model_there, trusts=arguments.trust_network)


def _show(sending: Sending, console: Console) -> int:
    files = [{"path": str(file.path), "there": file.there, "size": file.size} for file in sending.files]
    console.report({"files": files, "notes": list(sending.notes), "script": sending.script})
    for file in sending.files:
        console.result(f"{file.path}  {bytes_text(file.size)}")
    console.result(*sending.script.splitlines())
    return ExitCode.OK


def follow_run(arguments: argparse.Namespace, console: Console) -> int:
    """Follow a run that is elsewhere to its end."""
    folder = existing_run(arguments.run_dir)
    if (told := read_told(folder.path)) is not None:
        console.say(*filter(None, (elsewhere_words(told), detail_words(told))))
    return watch_run(arguments, console)


def cancel_run(arguments: argparse.Namespace, console: Console) -> int:
    """Cancel a run's job; what was trained since the last checkpoint may be lost."""
    folder = existing_run(arguments.run_dir)
    console.if_interrupted("The job may be cancelled or not.")
    cancel_job(folder)
    console.if_interrupted("The job is cancelled.")
    require_mirror(folder)
    console.report({"run_dir": str(folder.path.resolve()), "cancelled": True})
    console.result(
        "The job is cancelled. A run at work has some seconds to save a checkpoint; `submit` goes on from it."
    )
    return ExitCode.OK


def fetch_run(arguments: argparse.Namespace, console: Console) -> int:
    """Bring an adapter here."""
    folder = existing_run(arguments.run_dir)
    began = time.monotonic()
    place = fetch(folder, arguments.checkpoint)
    console.report(
        {"run_dir": str(folder.path.resolve()), "adapter_dir": str(place), "seconds": time.monotonic() - began}
    )
    console.result(f"Here, and whole: {place}")
    return ExitCode.OK


def tell_about(arguments: argparse.Namespace, console: Console) -> int:
    """Say what a place's program is."""
    console.report({"studio": __version__, "protocol": PROTOCOL_VERSION})
    console.result(f"QLoRA Studio {__version__}, protocol {PROTOCOL_VERSION}")
    return ExitCode.OK


def work_here(arguments: argparse.Namespace, console: Console) -> int:
    """Do a job's work."""
    folder = RunFolder(arguments.run_dir)
    console.say(f"Run: {folder.path}")
    if arguments.meet_by:
        meet_by(folder.path / arguments.meet_by, arguments)
    machines = machines_of(arguments)
    if machines is not None and machines.number:
        return _help_here(folder, arguments.sha256, machines, console)

    def listen(pause: Any) -> None:
        console.interruption.take(lambda count: pause() if count == 1 else None)

    state = work_in_job(folder, arguments.sha256, _terms(arguments), listen, machines=machines)
    console.report({"run_dir": str(folder.path), "status": str(state.phase), "steps": state.step})
    console.say(f"{state.phase.words} at step {state.step}.")
    return state.failure.kind.exit_code if state.failure else ExitCode.OK


def _help_here(folder: RunFolder, sha256: str, machines: Machines, console: Console) -> int:
    """Train along on another node than the first, which is the one that pauses where the job is asked to end."""
    console.interruption.take(lambda _: None)
    state = help_in_job(folder, sha256, machines)
    if state.failure is not None:
        return console.fail(error_of(state.failure))
    console.say(f"Machine {machines.number} is done: machine 0 has ended the training.")
    return ExitCode.OK


def _terms(arguments: argparse.Namespace) -> list[Command]:
    terms: list[Command] = [LowerRate()] if arguments.lower_rate else []
    return terms + ([AcceptChanges()] if arguments.accept_changes else [])
