"""What goes wrong while the program is set up, in one sentence, with what to do: told by what pip said last."""

import re
from collections.abc import Sequence

from qlora_studio.core.installer_words import DISK_FULL, meaning_of
from qlora_studio.core.words import say


class SetupError(Exception):
    """What a person reads: what is wrong, and what to do."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message, self.advice = message, advice


class MissingLibrary(SetupError):
    """A library of the system is not there: nothing is wrong with what was installed."""


class Stopped(Exception):
    """The user stopped it; it goes on from there the next time."""


_LARGER_DISK = say("Free some space, or name a folder on a larger disk in QLORA_STUDIO_PROGRAM.")
_LIBRARY = re.compile(r"(lib\S+\.so\S*): cannot open shared object file|DLL load failed while importing (\w+)")
_MISSING = re.compile(
    r"No matching distribution found for ([\w.-]+)|satisfies the requirement ([\w.-]+)"
    r"|requested \(constraint\) ([\w.-]+)"
)  # the last is what pip says of a package that is pinned: each has one version


def failure_of(lines: Sequence[str], wheels: str, python: str) -> SetupError:
    """Return what pip's last lines say. `wheels` is the folder that it was to take them from, where there was one."""
    text = "\n".join(lines)
    if known := meaning_of(text):
        return SetupError(known[0], _LARGER_DISK if re.search(DISK_FULL, text) else known[1])
    if found := _LIBRARY.search(text):
        return MissingLibrary(
            say("A library of the system is missing: {name}.", name=found[1] or found[2]),
            say("Install it with your system's packages, and try again: all else is there already."),
        )
    if found := _MISSING.search(text):
        return _missing(found[1] or found[2] or found[3], wheels, python)
    errors = [line for line in lines if line.startswith("ERROR:")] or list(lines)[-1:]
    said = errors[-1].removeprefix("ERROR:").strip() if errors else "nothing"
    return SetupError(say("It did not work: {said}", said=said), say("setup.log has all that was said. Try again."))


def _missing(name: str, wheels: str, python: str) -> SetupError:
    if wheels:
        return SetupError(
            say("{folder} has no wheel of {name} for Python {python}.", folder=wheels, name=name, python=python),
            say("Make the folder on a computer of the same kind, with a network: qlora-studio-setup --collect FOLDER."),
        )
    return SetupError(
        say("The package index has no {name} for Python {python} on this computer.", name=name, python=python),
        say("Use Python 3.11, 3.12 or 3.13, or update QLoRA Studio."),
    )
