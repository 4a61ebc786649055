"""What goes wrong while the program is set up, in one sentence, with what to do: told by what pip said last."""

import re
from collections.abc import Sequence

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


_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"No space left on device|Errno 28|WinError 112|Disk quota exceeded|Errno 122",
        say("The disk became full."),
        say("Free some space, or name a folder on a larger disk in QLORA_STUDIO_PROGRAM."),
    ),
    (
        r"\b407\b.*Proxy|Proxy Authentication Required",
        say("The proxy wants a name and a password."),
        say("Give both in HTTPS_PROXY (http://name:password@host:port) or with: pip config set global.proxy ADDRESS."),
    ),
    (
        r"ProxyError|Cannot connect to proxy|Tunnel connection failed",
        say("The proxy was not reached."),
        say("Look at HTTPS_PROXY and at pip's settings (pip config list), and try again: what was downloaded is kept."),
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        say("The certificate of the package index is not trusted here."),
        say("In a company's network, name its certificates in PIP_CERT, or: pip config set global.cert FILE."),
    ),
    (
        r"DO NOT MATCH THE HASHES",
        say("What arrived is not what the package index announced."),
        say("Try again. If it happens again, something on the way changes files: a proxy, or a broken mirror."),
    ),
    (
        r"\b40[13]\b.*(Client Error|Forbidden|Unauthorized)",
        say("The package index refused."),
        say("Look at the address and the password of the index in pip's settings (pip config list)."),
    ),
    (
        r"name resolution|NameResolutionError|getaddrinfo failed|NewConnectionError|Max retries exceeded"
        r"|Connection refused|ConnectTimeout|Read timed out|ReadTimeoutError|Connection reset|IncompleteRead"
        r"|Connection broken|ConnectionError|Network is unreachable",
        say("The package index was not reached, or the connection broke."),
        say("Look at the network (behind a proxy, set HTTPS_PROXY), and try again: what was downloaded is kept."),
    ),
    (
        r"ensurepip is not available|No module named '?(ensurepip|venv)",
        say("This Python cannot make environments."),
        say("On Debian and Ubuntu: sudo apt install python3-venv."),
    ),
    (
        r"Permission ?[Dd]enied|Errno 13|WinError 5\b",
        say("A file of the program cannot be written."),
        say("Close QLoRA Studio where it is open; the folder must be your user's own."),
    ),
)  # a pattern, what is wrong, and what to do; the first that is found holds
_LIBRARY = re.compile(r"(lib\S+\.so\S*): cannot open shared object file|DLL load failed while importing (\w+)")
_MISSING = re.compile(
    r"No matching distribution found for ([\w.-]+)|satisfies the requirement ([\w.-]+)"
    r"|requested \(constraint\) ([\w.-]+)"
)  # the last is what pip says of a package that is pinned: each has one version


def failure_of(lines: Sequence[str], wheels: str, python: str) -> SetupError:
    """Return what pip's last lines say. `wheels` is the folder that it was to take them from, where there was one."""
    text = "\n".join(lines)
    for pattern, message, advice in _KNOWN:
        if re.search(pattern, text):
            return SetupError(message, advice)
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
