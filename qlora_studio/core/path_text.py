"""Paths as people and programs hand them over: in quotes, as `file://` links, with blanks around them."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

_DRIVE = re.compile(r"/[A-Za-z]:([/\\]|$)")
_FULL = re.compile(r"[/~]|[A-Za-z]:[/\\]|\\\\|file:", re.IGNORECASE)


def path_of_text(text: str) -> str:
    """Return the path that a text names: `"C:\\a b.jsonl"` is C:\\a b.jsonl, `file:///home/a%20b` is /home/a b."""
    path = text.strip()
    if len(path) > 1 and path[0] == path[-1] and path[0] in "\"'":
        path = path[1:-1].strip()
    return _path_of_link(path[5:]) if path.lower().startswith("file:") else path


def whole_path(text: str | Path) -> Path:
    """Return a path with the home that its `~` means; as it stands, as nothing that is there, where no such user is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - that of pathlib raises where no such user is


def is_there(path: Path) -> bool:
    """Whether something is at a path; nothing is where the system refuses the name or the way to it."""
    return os.path.exists(path)  # noqa: PTH110 - that of pathlib raises where a name is too long


def paths_of_text(text: str) -> list[str]:
    """Return the paths of a text of nothing but full paths, one a line; else nothing."""
    paths = [path_of_text(line) for line in text.splitlines() if line.strip()]
    return paths if paths and all(_FULL.match(path) for path in paths) else []


def _path_of_link(rest: str) -> str:
    """Return the path of what follows `file:`, by whatever program it was written."""
    host = ""
    if rest.startswith("//"):
        host, slash, place = rest[2:].partition("/")
        rest = slash + place
    path = unquote(rest)
    if host and host.lower() != "localhost":
        return f"//{host}{path}"
    return path[1:] if _DRIVE.match(path) else path
