"""The act by which several machines train one run: it says what listens, and that the network must be trusted."""

import argparse
import ipaddress
import os
import socket
import sys
import time
from pathlib import Path

import psutil
from pydantic import ValidationError

from qlora_studio.cli.console import write_err
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.machines import Machines
from qlora_studio.storage.durable import write_atomically

_OPTIONS = ("machines", "machine", "meet", "interface")
_LAUNCHERS = (
    ("torchrun", "TORCHELASTIC_RUN_ID", "WORLD_SIZE"),
    ("srun", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"),
)  # each with what it alone sets, and where it says how often it starts a program
_LOOK_SECONDS = 0.5


def add_machines(parser: argparse.ArgumentParser) -> None:
    """Add the options that have several machines train a run."""
    group = parser.add_argument_group("several machines", "Linux; all of these on each of them: docs/SCALING.md")
    group.add_argument("--machines", type=int, metavar="N", help="how many train this run together")
    group.add_argument("--machine", type=int, metavar="K", help="which one this is: 0 has the run, the others help")
    group.add_argument("--meet", metavar="HOST:PORT", help="an address of machine 0, and a port there, to meet at")
    group.add_argument("--interface", metavar="NAME", help="the network interface of this machine to speak by")
    group.add_argument(
        "--trust-network",
        action="store_true",
        help="everybody who reaches that interface is trusted: nothing is encrypted, and nobody is asked who they are",
    )


def machines_of(arguments: argparse.Namespace) -> Machines | None:
    """Return with which machines a run is trained; None where it is one. Says first what will listen.

    Raises StudioError where something is missing or wrong, and where the network is not called trusted.
    """
    given = [name for name in _OPTIONS if getattr(arguments, name) is not None]
    if not given and not arguments.trust_network:
        _refuse_copies()
        return None
    if missing := [f"--{name}" for name in _OPTIONS if name not in given]:
        raise _wrong(f"Several machines train a run only by the whole act: {', '.join(missing)} is missing.")
    if sys.platform != "linux":
        raise _wrong("Several machines train one run on Linux alone.")
    machines = _machines(arguments)
    own = _addresses(machines.interface)
    if machines.number == 0 and machines.host not in [str(address.ip) for address in own]:
        there = ", ".join(str(address.ip) for address in own)
        raise _wrong(f"{machines.host} is no address of {machines.interface}, which has {there}.")
    write_err("".join(f"{line}\n" for line in listening(machines, own)))  # with --quiet too
    if not arguments.trust_network:
        raise StudioError(
            "Nothing was started: that network was not called trusted.",
            kind=FailureKind.USAGE,
            advice="Where you trust everybody who reaches it, say so: --trust-network",
        )
    return machines


def _refuse_copies() -> None:
    """Raise StudioError where torchrun or srun starts this several times: each would train a run of its own."""
    for launcher, mark, count in _LAUNCHERS:
        if mark in os.environ and os.environ.get(count, "1") not in ("0", "1"):
            raise StudioError(
                f"{launcher} starts this {os.environ[count]} times, and each would train a run of its own.",
                kind=FailureKind.USAGE,
                advice="Start it once: it starts a process for each card itself (hardware.gpus=all). Of several "
                "machines each is named: --machines, --machine. docs/SCALING.md says how.",
            )


def meet_by(path: Path, arguments: argparse.Namespace) -> None:
    """Have --meet be what a file says that all machines see: machine 0 writes it, the others wait for it.

    The address is the first one of the interface that is named, the port one that is free. Raises StudioError.
    """
    if arguments.machine == 0:
        address = _addresses(arguments.interface)[0].ip
        for old in path.parent.glob(f"{path.name.partition('-')[0]}-*"):
            old.unlink(missing_ok=True)
        write_atomically(path, f"[{address}]:{_free_port(str(address))}".encode())
    while not path.exists():
        time.sleep(_LOOK_SECONDS)
    arguments.meet = path.read_text("ascii")


Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def listening(machines: Machines, own: list[Address]) -> list[str]:
    """Return what will listen on this machine, and who can reach that, in sentences."""
    address = own[0]
    lines = [f"Machine {machines.number} of {machines.count}, by {machines.interface}: while it trains, each card's "
             f"process listens on a port of {address.ip} that the system chooses."]  # fmt: skip
    if machines.number == 0:
        lines.append(f"It also listens on {machines.host}, port {machines.port}, where the machines meet.")
    lines.append(
        f"Every computer of {address.network} reaches these ports, and every other one that is routed to it. Nothing "
        "is encrypted and nobody is asked who they are: whoever reaches them can read and change what the run learns. "
        "The network must be trusted."
    )
    return lines


def _machines(arguments: argparse.Namespace) -> Machines:
    host, _, port = arguments.meet.rpartition(":")
    try:
        machines = Machines(
            count=arguments.machines,
            number=arguments.machine,
            host=_resolved(host.strip("[]")),
            port=int(port),
            interface=arguments.interface,
        )
    except (ValueError, ValidationError) as error:
        raise _wrong("--machines, --machine or --meet HOST:PORT is no such value.") from error
    if machines.number >= machines.count:
        raise _wrong(f"Of {machines.count} machines the last one is --machine {machines.count - 1}.")
    return machines


def _resolved(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise _wrong(f"The host {host!r} of --meet is not found: {error.strerror}.") from error


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        trial.bind((host, 0))
        return int(trial.getsockname()[1])


def _addresses(interface: str) -> list[Address]:
    """Return the addresses of an interface, the newer kind last. Raises StudioError where it has none."""
    known = psutil.net_if_addrs()
    found = [item for item in known.get(interface, []) if item.family in (socket.AF_INET, socket.AF_INET6)]
    if not found:
        raise _wrong(f"There is no network interface {interface} with an address here. There are: {', '.join(known)}.")
    found.sort(key=lambda item: item.family)
    texts = [(item.address.partition("%")[0], item.netmask) for item in found]
    return [ipaddress.ip_interface(f"{text}/{_prefix(mask)}" if mask else text) for text, mask in texts]


def _prefix(mask: str) -> int:
    return int(ipaddress.ip_address(mask)).bit_count()


def _wrong(message: str) -> StudioError:
    return StudioError(message, kind=FailureKind.USAGE, advice="docs/SCALING.md says how it is done.")
