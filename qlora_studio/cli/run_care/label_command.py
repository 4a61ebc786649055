"""`rename`, `tags` and `note`: what a user calls a run. The folder, and all that the run does, stay as they are."""

import argparse
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.train_command import existing_run
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError
from qlora_studio.storage.durable import not_writable
from qlora_studio.storage.run_care.run_label import RunLabel, name_of, read_label, tags_of, write_label
from qlora_studio.storage.runs.run_folder import RunFolder

_FIELDS = {"rename": "name", "tags": "tags", "note": "note"}  # by the command that changes it


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `rename`, `tags` and `note`."""
    for command, what, more in (
        ("rename", "call a run by another name", "Without NAME it is said what the run is called."),
        ("tags", "put tags on a run", "With commas or one by one. Without any it is said which there are."),
        ("note", "write a note on a run", "Without TEXT the note is read."),
    ):
        parser = commands.add_parser(
            command,
            parents=[shared],
            help=what,
            description=f"{more} The folder keeps its name, and a run at work goes on.",
        )
        parser.add_argument("run_dir", metavar="RUN_DIR", help="the run's folder")
        field = _FIELDS[command]
        parser.add_argument("words", metavar={"tags": "TAG"}.get(field, field.upper()), nargs="*", help=f"the {field}")
        if field == "tags":
            parser.add_argument("--add", action="append", metavar="TAG", help="one more; may be given again")
            parser.add_argument("--remove", action="append", metavar="TAG", help="one less; may be given again")
        parser.add_argument("--clear", action="store_true", help=f"take the {field} away")
        parser.set_defaults(run=label_run, field=field, add=[], remove=[])


def label_run(arguments: argparse.Namespace, console: Console) -> int:
    """Change name, tags or note of a run where something is said, and say what the run is called now."""
    console.if_interrupted("Nothing was changed.")
    folder = existing_run(arguments.run_dir)
    label = read_label(folder)
    if arguments.words or arguments.clear or arguments.add or arguments.remove:
        label = _changed(label, arguments)
        with console.interruption.held():
            _write(folder, label)
            console.if_interrupted("It is called so now.")
    name = name_of(folder, folder.config())
    console.report({"run_dir": str(folder.path.resolve()), "name": name, "tags": list(label.tags), "note": label.note})
    console.result({"name": name, "tags": ", ".join(label.tags), "note": label.note}[arguments.field] or "none")
    return ExitCode.OK


def _changed(label: RunLabel, arguments: argparse.Namespace) -> RunLabel:
    """Return the label with what is said. Raises StudioError where that is no name, tag or note."""
    if arguments.words and arguments.clear:
        raise StudioError("Give words or --clear, not both.", kind=FailureKind.USAGE)
    value: Any = _tags(label, arguments) if arguments.field == "tags" else " ".join(arguments.words)
    try:
        return RunLabel.model_validate(label.model_dump() | {arguments.field: value})
    except ValueError as error:
        raise StudioError(
            f"That cannot be the {arguments.field} of a run.",
            kind=FailureKind.USAGE,
            advice="A name or a tag is one line of 120 letters at most, a note has 20,000.",
        ) from error


def _tags(label: RunLabel, arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return the tags that are said, or those that are there, with and without those that are named."""
    kept = () if arguments.clear else arguments.words or label.tags
    removed = tags_of(",".join(arguments.remove or ()))
    return tuple(tag for tag in tags_of(",".join((*kept, *(arguments.add or ())))) if tag not in removed)


def _write(folder: RunFolder, label: RunLabel) -> None:
    try:
        write_label(folder, label)
    except OSError as error:
        raise not_writable(folder.path, error) from error
