"""`qlora-studio …`: reads the command, runs it, and turns whatever went wrong into one sentence and an exit code."""

import argparse
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO

from qlora_studio import __version__
from qlora_studio.cli.console import Console, ReaderGone, require_display, with_signs, write_err, write_out
from qlora_studio.cli.interruption import Interruption
from qlora_studio.core.errors import ExitCode, FailureKind, StudioError, unforeseen
from qlora_studio.storage.runs.leftovers import remove_leftovers, removed_text
from qlora_studio.storage.runs.trust import take_over_once
from qlora_studio.storage.settings import load_settings

OpenWindow = Callable[[bool], int]
SelfTest = Callable[[bool], int]

_COMMANDS = {
    "demo": ("demo",),
    "train": ("train", "resume"),
    "watch": ("watch", "runs"),
    "run_care.compare": ("compare",),
    "control": ("pause", "stop", "save", "evaluate-now", "end", "discard"),
    "run_care.label": ("rename", "tags", "note"),
    "run_care.pack": ("import", "report"),
    "run_care.delete": ("delete",),
    "run_care.trust": ("trust",),
    "queue": ("queue",),
    "schedulers.task": ("task",),
    "schedulers.elsewhere": ("elsewhere",),
    "export": ("merge", "export", "verify"),
    "hub": ("download", "upload"),
    "chat": ("chat",),
    "data": ("preview", "check-data"),
    "memory": ("estimate", "fit"),
    "doctor": ("cache", "doctor"),
    "starter": ("starter",),
}  # by the module that has them, of which the one that is named is imported
_DESCRIPTION = """\
Fine-tune a language model on one graphics card with QLoRA.

Without a command the window opens. Everything that the window does can be done here too: the same jobs, the same run
folders. Ask a command what it can do with --help."""
_EPILOG = """\
examples:
  qlora-studio                                             open the window
  qlora-studio demo                                        train the starter model and compare before and after
  qlora-studio train --model Qwen/Qwen3-8B --data chats.jsonl
  qlora-studio train run.toml --set training.epochs=3
  qlora-studio chat RUN_DIR --prompt "Hello"
  qlora-studio doctor                                      is everything there that training needs?

Exit codes and the JSON of --json are described in docs/COMMANDS.md."""


def run(
    argv: Sequence[str], *, open_window: OpenWindow, self_test: SelfTest, interruption: Interruption | None = None
) -> int:
    """Run a command line and return its exit code. The window comes from outside: this package knows no Qt."""
    interruption = interruption or Interruption()
    try:
        code = _told(argv, open_window, self_test, interruption)
    except ReaderGone:
        code = ExitCode.OK
    was_interrupted = interruption.count and code in (ExitCode.OK, ExitCode.INTERRUPTED)
    return interruption.exit_code if was_interrupted else code


def _told(argv: Sequence[str], open_window: OpenWindow, self_test: SelfTest, interruption: Interruption) -> int:
    """Run a command line; what went wrong is told, and an exit code."""
    console = Console(json="--json" in argv)
    try:
        arguments = _parsed(argv)
        console = Console(
            json=arguments.json, details=arguments.details, quiet=arguments.quiet, interruption=interruption
        )
        arguments.open_window = open_window
        with interruption.held():
            settings = load_settings()
            take_over_once(settings.runs_path)
        if settings.problem:
            console.say(settings.problem)
        if arguments.self_test:
            return self_test(arguments.json)
        if arguments.command is None:
            require_display()
            return open_window(False)
        interruption.begin()
        if not getattr(arguments, "only_looks", False):
            _tidy_up(console)
        return int(arguments.run(arguments, console))
    except StudioError as error:
        return console.fail(error)
    except KeyboardInterrupt:
        words = f"Interrupted. {interruption.sentence}"
        return console.fail(StudioError(words, kind=FailureKind.INTERRUPTED))
    except (ReaderGone, ImportError):  # who called this knows what is to be said
        raise
    except Exception as error:  # noqa: BLE001 - a traceback is for those who ask for details
        return console.fail(unforeseen(error))


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Return what a command line says; help and complaints go through the same door as everything else."""
    out, err = StringIO(), StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            return _parser(argv).parse_args(argv)
    finally:
        write_out(with_signs(out.getvalue()))
        write_err(with_signs(err.getvalue()))


def _tidy_up(console: Console) -> None:
    if removed := remove_leftovers(load_settings().runs_path):
        console.say(removed_text(removed))


def _parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of a command line: of the command that it names, or of all where it names none."""
    shared = argparse.ArgumentParser(add_help=False)
    add_shared_options(shared, default=argparse.SUPPRESS)
    parser = argparse.ArgumentParser(
        prog="qlora-studio",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_shared_options(parser, default=False)
    parser.add_argument("--version", action="version", version=f"qlora-studio {__version__}")
    parser.add_argument("--self-test", action="store_true", help="open every page of the window once, report, and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    word = next((word for word in argv if not word.startswith("-")), "")
    named = [module for module, names in _COMMANDS.items() if word in names]
    for name in named or _COMMANDS:
        import_module(f"qlora_studio.cli.{name}_command").add_commands(commands, shared)
    return parser


def add_shared_options(parser: argparse.ArgumentParser, default: object) -> None:
    """Add the options that every command has."""
    parser.add_argument(
        "--json", action="store_true", default=default, help="report as one JSON object, the last line on stdout"
    )
    parser.add_argument(
        "--details", action="store_true", default=default, help="show the details of an error, such as a traceback"
    )
    parser.add_argument("--quiet", action="store_true", default=default, help="show no progress")
