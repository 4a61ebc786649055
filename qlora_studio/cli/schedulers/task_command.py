"""`task`: a run as a file for another scheduler. It is written, and nothing is sent or asked."""

import argparse
from pathlib import Path
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.run_source import add_run_source, run_config
from qlora_studio.cli.train_command import check_run
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.core.export.task_files import kubernetes_job, skypilot_task
from qlora_studio.core.run.ranks import require_shares
from qlora_studio.storage.durable import write_atomically


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `task`."""
    task = commands.add_parser(
        "task",
        parents=[shared],
        help="write a run as a SkyPilot task or a Kubernetes job",
        description="Write a run as a file for somebody else's scheduler. Nothing is sent: you launch it yourself.",
    )
    add_run_source(task)
    task.add_argument("--for", dest="scheduler", choices=["skypilot", "kubernetes"], required=True)
    task.add_argument("--cards", type=int, default=1, metavar="N", help="how many cards train it together (default: 1)")
    task.add_argument("--accelerator", metavar="NAME", help="SkyPilot: what it calls the card, such as RTX4090 or H100")
    task.add_argument("--wheel", metavar="FILE", help="SkyPilot: this program as a wheel, which is installed there")
    task.add_argument("--image", metavar="IMAGE", help="Kubernetes: an image that has the program")
    task.add_argument("--claim", metavar="NAME", help="Kubernetes: the volume claim that has model and data")
    task.add_argument("--out", metavar="FILE", required=True, help="the file to write")
    task.set_defaults(run=write_task)


def write_task(arguments: argparse.Namespace, console: Console) -> int:
    """Write the file and say how it is launched."""
    config = run_config(arguments)
    check_run(config)
    if arguments.cards < 1:
        raise StudioError("A run needs one card at least: --cards.", kind=FailureKind.USAGE)
    require_shares(config, arguments.cards)
    if arguments.scheduler == "skypilot":
        accelerator, wheel = _given(arguments, "accelerator"), _given(arguments, "wheel")
        text = skypilot_task(config, accelerator, arguments.cards, str(Path(wheel).resolve()))
    else:
        text = kubernetes_job(config, arguments.cards, _given(arguments, "image"), _given(arguments, "claim"))
    with console.interruption.held():
        write_atomically(Path(arguments.out), text.encode())
        console.if_interrupted(f"{arguments.out} is written.")
    console.report({"path": arguments.out})
    program = "sky launch" if arguments.scheduler == "skypilot" else "kubectl apply -f"
    console.result(f"Written; no {arguments.scheduler} has run it here. Read it, then: {program} {arguments.out}")
    return ExitCode.OK


def _given(arguments: argparse.Namespace, name: str) -> str:
    if value := getattr(arguments, name):
        return str(value)
    raise StudioError(f"Say --{name} for {arguments.scheduler}.", kind=FailureKind.USAGE)
