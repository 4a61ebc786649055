"""`qlora-studio-setup`, and what the launcher asks before the program is there."""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from qlora_studio.bootstrap import terminal
from qlora_studio.bootstrap.failure import SetupError
from qlora_studio.bootstrap.journey import Wish
from qlora_studio.bootstrap.places import Places
from qlora_studio.bootstrap.removal import remove
from qlora_studio.bootstrap.source import USUAL, Source, torch_choice, version_of
from qlora_studio.bootstrap.start import start
from qlora_studio.core.torch_builds import BUILDS, PROCESSOR
from qlora_studio.core.words import say

_DESCRIPTION = """\
Sets up the libraries that QLoRA Studio runs on, for your user alone: what was begun goes on, what is old is renewed.
Proxies, certificates and package indexes are those of pip's own settings and environment."""
_NOT_READY = 1


def main(folder: Path, argv: Sequence[str]) -> int:
    """Run the setup of the package in a folder, or start the program with all words after `--start`."""
    places = Places.of_the_user()
    try:
        if argv[:1] == ["--start"]:
            return start(places, folder, argv[1:], lambda: _made(places, _wish(folder), ask=True))
        return _run(places, folder, _parser().parse_args(argv))
    except SetupError as error:
        return terminal.fail(error)


def _run(places: Places, folder: Path, asked: argparse.Namespace) -> int:
    if asked.remove:
        print(remove(places))
        return 0
    source, current = Source.at(folder), places.current()
    is_ready = current is not None and source.is_in(current)
    if asked.status:
        print(_status(places, source))
        return 0 if is_ready else _NOT_READY
    if is_ready and not (asked.repair or asked.collect):
        print(say("QLoRA Studio {version} is set up. --repair makes it anew.", version=version_of(source.edition)))
        return 0
    wish = _wish(folder, asked.torch, asked.wheels)
    if asked.collect:
        return terminal.collect(places, wish, asked.collect)
    return _made(places, wish, ask=False, text=asked.text)


def _wish(folder: Path, torch: str = "auto", wheels: Path | None = None) -> Wish:
    return Wish(Source.at(folder), torch_choice(torch), wheels)


def _made(places: Places, wish: Wish, *, ask: bool, text: bool = False) -> int:
    """Set it up, in a window where there is a screen for one."""
    if not text and _has_screen():
        from qlora_studio.bootstrap import window

        return window.set_up(places, wish)
    if ask and not (sys.stdin and sys.stdin.isatty()):
        later = say("Run: qlora-studio-setup")
        if places.current() is None:
            raise SetupError(say("QLoRA Studio is not set up for your user yet."), later)
        print(say("A new version of QLoRA Studio is installed and not set up yet."), later, file=sys.stderr)
        return 0
    return terminal.set_up(places, wish, ask=ask)


def _status(places: Places, source: Source) -> str:
    current, wanted = places.current(), version_of(source.edition)
    if current is None:
        return say("QLoRA Studio {wanted} is not set up in {folder}.", wanted=wanted, folder=places.root)
    return say(
        "QLoRA Studio {version} is set up in {folder}; the package is {wanted}.",
        version=version_of(current.folder.name),
        folder=current.folder,
        wanted=wanted,
    )


def _has_screen() -> bool:
    """Whether a window can be shown; on Wayland, Tk's is shown by way of X."""
    if find_spec("tkinter") is None:
        return False
    import tkinter

    try:
        tkinter.Tk().destroy()
    except tkinter.TclError:
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qlora-studio-setup", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--repair", action="store_true", help="make everything anew, beside what is in use")
    what.add_argument("--remove", action="store_true", help="remove it; runs, models and settings stay")
    what.add_argument("--status", action="store_true", help="say what is set up; the exit code is 0 where it is ready")
    what.add_argument("--collect", type=Path, metavar="FOLDER", help="only download: for a computer without a network")
    parser.add_argument("--wheels", type=_folder, metavar="FOLDER", help="take everything from a folder, no network")
    builds = ["auto", PROCESSOR, *(build.name for build in BUILDS), USUAL]
    parser.add_argument("--torch", choices=builds, default="auto", help="the build of PyTorch, where not by the card")
    parser.add_argument("--text", action="store_true", help="no window")
    return parser


def _folder(text: str) -> Path:
    folder = Path(text).absolute()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(say("{folder} is no folder", folder=folder))
    return folder
