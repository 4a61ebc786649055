"""`doctor` and `cache`: is everything there that training needs, and what is kept so as to be made no second time."""

import argparse
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.diagnosis import Finding, diagnose
from qlora_studio.core.errors import ExitCode
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say
from qlora_studio.jobs.package_install import install_packages
from qlora_studio.storage.installation import repair_advice
from qlora_studio.storage.models.kept_bases import kept_name
from qlora_studio.storage.runs.cache_rooms import ROOMS, CacheRoom, Kept, require_nobody_at_work, room_named
from qlora_studio.storage.settings import cache_path, load_settings, save_settings

_SWITCH = {"on": True, "off": False}
_MARKS = {"ok": "ok     ", "warning": "note   ", "error": "PROBLEM"}


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `doctor` and `cache`."""
    doctor = commands.add_parser(
        "doctor",
        parents=[shared],
        help="check Python, driver, card, libraries and disk",
        description="Check Python, driver, card, PyTorch, bitsandbytes and disk, and say what to do. "
        "Ends with exit code 34 where something keeps training from working.",
    )
    doctor.add_argument(
        "--fix", action="store_true", help="install what mends a problem, then look again; some of it is large"
    )
    doctor.set_defaults(run=run_doctor)
    cache = commands.add_parser(
        "cache",
        parents=[shared],
        help="show what is kept in the cache, and remove it",
        description="Show what the cache holds and takes. All of it can be made again: what is removed costs time. "
        "Runs, exports and models of the hub lie elsewhere.",
    )
    cache.add_argument(
        "--remove", action="append", default=[], choices=[room.name for room in ROOMS], help="remove all of one kind"
    )
    cache.add_argument(
        "--keep-bases", choices=tuple(_SWITCH), help="keep bases in 4 bits from now on, or none (default: on)"
    )
    cache.set_defaults(run=show_cache)


def run_doctor(arguments: argparse.Namespace, console: Console) -> int:
    """Print every finding with its advice; where that is asked for, mend what can be and look again."""
    console.if_interrupted("Not everything was checked; nothing was changed.")
    findings, mended = _look(console), list[Finding]()
    while arguments.fix and (finding := _next_to_mend(findings, mended)):
        console.if_interrupted(say("{name} may be half mended: run doctor --fix again.", name=finding.name))
        console.say(say("Installing: {packages}", packages=" ".join(finding.mend)))
        install_packages(*finding.mend, shown=not console.quiet)
        mended.append(finding)
        console.result("")
        findings = _look(console)  # what is there now may be all, or ask for more
    healthy = all(finding.level != "error" for finding in findings)
    report = {"ok": healthy, "checks": [vars(finding) for finding in findings]}
    console.report(report | ({"mended": [finding.name for finding in mended]} if arguments.fix else {}))
    console.result("Everything that training needs is here." if healthy else "See the problems above.")
    if not healthy and any(finding.mend in [done.mend for done in mended] for finding in findings if finding.mend):
        console.result(say("What was installed anew did not mend it. {advice}", advice=repair_advice()))
    return ExitCode.OK if healthy else ExitCode.DOCTOR_FOUND_PROBLEMS


def _next_to_mend(findings: list[Finding], mended: list[Finding]) -> Finding | None:
    """Return what an installation mends and was not tried yet."""
    tried = [finding.mend for finding in mended]
    return next((found for found in findings if found.mend and found.level != "ok" and found.mend not in tried), None)


def _look(console: Console) -> list[Finding]:
    """Print the findings as they come."""
    findings: list[Finding] = []
    for finding in diagnose():
        findings.append(finding)
        console.result(f"{_MARKS[finding.level]}  {finding.name}: {finding.message}")
        if finding.advice:
            console.result(f"         {finding.advice}")
    return findings


def show_cache(arguments: argparse.Namespace, console: Console) -> int:
    """Change what was asked for, then show what there is."""
    if arguments.keep_bases:
        save_settings(load_settings().model_copy(update={"keep_bases": _SWITCH[arguments.keep_bases]}))
    if arguments.remove:
        require_nobody_at_work(load_settings().runs_path)
    removed = sum(room_named(name).remove() for name in arguments.remove)
    found = {room: _kept(room) for room in ROOMS}
    keeps = load_settings().keep_bases
    console.report(
        {
            "cache": str(cache_path()),
            "keep_bases": keeps,
            "removed": removed,
            "rooms": {room.name: [{"name": item.name, "size": item.size} for item in found[room]] for room in ROOMS},
        }
    )
    if arguments.remove:
        console.say(f"Removed: {bytes_text(removed)}.")
    console.result(str(cache_path()), *(line for room in ROOMS for line in _lines(room, found[room])))
    if not keeps:
        console.result("Bases in 4 bits are not kept: --keep-bases on keeps them again.")
    return ExitCode.OK


def _kept(room: CacheRoom) -> list[Kept]:
    return room.kept(kept_name) if room.name == "bases" else room.kept()


def _lines(room: CacheRoom, kept: list[Kept]) -> list[str]:
    size = bytes_text(sum(item.size for item in kept))
    lines = [f"{room.name:<14}{size:>10}  {room.title}. Without them, {room.cost}."]
    if room.name in ("bases", "models"):
        lines += [f"{'':<14}{bytes_text(item.size):>10}    {item.name}" for item in kept]
    return lines
