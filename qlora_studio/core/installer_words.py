"""What the last words of pip and uv mean, and what to do. The standard library alone reads this file.

Whoever installs something asks here: the setup of packages, before there is a program, the doctor, the starter.
"""

import re

from qlora_studio.core.words import say

DISK_FULL = r"No space left on device|Errno 28|WinError 112|Disk quota exceeded|Errno 122"

_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        DISK_FULL,
        say("The disk became full."),
        say("Free some space for the program, and where temporary files lie; TMPDIR names another folder for those."),
    ),
    (
        r"No usable temporary directory",
        say("There is no folder that takes temporary files."),
        say("Free some space, or name a folder that can be written in TMPDIR."),
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
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|invalid peer certificate",
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
        r"|Connection broken|ConnectionError|Network is unreachable|dns error|tcp connect error|operation timed out",
        say("The package index was not reached, or the connection broke."),
        say("Look at the network (behind a proxy, set HTTPS_PROXY), and try again: what was downloaded is kept."),
    ),
    (
        r"ensurepip is not available|No module named '?(ensurepip|venv)",
        say("This Python cannot make environments."),
        say("On Debian and Ubuntu: sudo apt install python3-venv."),
    ),
    (
        r"Permission ?[Dd]enied|Errno 13|WinError 5\b|Read-only file system|Errno 30",
        say("A file of the program cannot be written."),
        say("Close QLoRA Studio where it is open; the folder must be your user's own."),
    ),
)  # a pattern, what is wrong, and what to do; the first that is found holds


def meaning_of(said: str) -> tuple[str, str] | None:
    """Return what is wrong and what to do, in two sentences; None where these words mean nothing known."""
    return next(((message, advice) for pattern, message, advice in _KNOWN if re.search(pattern, said)), None)
