"""The job script that a place's SLURM gets: what the run asks of the scheduler, the setup lines, and the program.

SIGTERM comes to the program itself, some time before the limit: it pauses the run with a checkpoint. A job whose node
is lost is put into the queue again by the scheduler, and goes on from the newest safe checkpoint.

On several nodes srun starts the program once on each. The first one, machine 0, has the run and is the one that pauses;
they find each other by a file in the run's folder, another one each time that the job begins.
"""

import re
import shlex
from collections.abc import Sequence

from qlora_studio.core.elsewhere.place import Place

_LEAVING_SECONDS = 120  # for the other nodes to end after the first of all, before they are ended


def job_script(place: Place, run: str, sha256: str, *, more: Sequence[str] = (), trusts: bool = False) -> str:
    """Return the script of a job for the run in the folder `run` there, whose run.toml has that hash.

    `more` are further words for the program, such as --lower-rate; `trusts` is whether the user called the network
    between several nodes trusted: the program there asks for that.
    """
    words = ["elsewhere", "work", run, "--sha256", sha256, *more]
    return "\n".join(
        (
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in _options(place, run)),
            "",
            "# Made by QLoRA Studio. It may be submitted again by hand: the run goes on where it was.",
            *filter(None, place.setup.split("\n")),
            _command(place, shlex.join(words), trusts),
            "",
        )
    )


def seconds_of(limit: str) -> int | None:
    """Return the seconds of a time limit as SLURM takes it: minutes, minutes:seconds, hours:…, days-hours:…"""
    if not re.fullmatch(r"[0-9:-]+", limit):
        return None
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds
    if len(parts) == 1:
        return parts[0] * 60
    hours, minutes, seconds = parts if len(parts) == 3 else (0, *parts)
    return (hours * 60 + minutes) * 60 + seconds


def _command(place: Place, words: str, trusts: bool) -> str:
    if place.nodes == 1:
        return f"exec {place.program} {words}"
    each = (
        f'exec {place.program} {words} --machines {place.nodes} --machine "$SLURM_PROCID" --interface {place.interface}'
    )
    each += ' --meet-by elsewhere/meeting-"$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"'
    each += " --trust-network" if trusts else ""
    options = f"--nodes={place.nodes} --ntasks-per-node=1 --kill-on-bad-exit=0 --wait={_LEAVING_SECONDS}"
    options += f" --cpus-per-task={place.cpus}" if place.cpus else ""
    return f"exec srun {options} bash -c {shlex.quote(each)}"


def _options(place: Place, run: str) -> list[str]:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", run.rstrip("/").rpartition("/")[2])[:60]
    options = [
        f"--job-name={name}",
        f"--chdir={run}",
        "--output=elsewhere/slurm-%j.log",
        "--open-mode=append",
        f"--nodes={place.nodes}",
        f"--ntasks={place.nodes}",
        "--requeue",
        f"--signal=B:TERM@{_grace(place)}",
    ]
    options += [f"--partition={place.partition}"] if place.partition else []
    options += [f"--account={place.account}"] if place.account else []
    options += [f"--time={place.time}"] if place.time else []
    options += [f"--gres=gpu:{place.cards}"] if place.card_count else []
    options += [f"--cpus-per-task={place.cpus}"] if place.cpus else []
    options += [f"--mem={place.memory}"] if place.memory else []
    return options + [line for line in place.options.split("\n") if line]


def _grace(place: Place) -> int:
    """Return how many seconds before its limit a job is asked to pause: of a short one, half of it."""
    limit = seconds_of(place.time)
    return place.grace_seconds if limit is None else max(1, min(place.grace_seconds, limit // 2))
