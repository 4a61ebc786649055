"""Faults of the card, each at a call of a library's function: `REHEARSAL_FAULTS="lost@trl:SFTTrainer.training_step#3"`.

A word is a kind, `@`, the function (its module, `:`, its name there) and `#`, the call in which it strikes:

- `full`: others take what is left of the memory; what is allocated next is refused.
- `lost`: the card is gone; whatever is asked of it next fails, as CUDA says it.
- `exit`: the process ends as bitsandbytes' library ends it: by C's exit, with one line on stderr. Its function may be
  `bitsandbytes`: any call of its CUDA library.

A fault strikes once: REHEARSAL_STRUCK is the file that remembers it for the processes that come after.
"""

import ctypes
import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

_WORD = re.compile(r"(?P<kind>full|lost|exit)@(?P<module>[\w.]+)(:(?P<name>[\w.]+))?#(?P<call>\d+)")
_EXIT = b"Error unspecified launch failure at line 118 in file /src/csrc/ops.cu\n"


@dataclass
class Fault:
    """A fault that is to strike, and how often its function was called."""

    word: str
    kind: str
    module: str
    name: str
    at: int
    calls: int = 0

    def count(self) -> None:
        """Count a call, and strike in the one that was asked for."""
        self.calls += 1
        struck = Path(os.environ["REHEARSAL_STRUCK"])
        if self.calls == self.at and self.word not in (struck.read_text() if struck.exists() else ""):
            with struck.open("a") as file:
                file.write(self.word + "\n")
            _strike(self.kind)


def _asked_for() -> tuple[Fault, ...]:
    words = os.environ.get("REHEARSAL_FAULTS", "").split()
    matches = [(word, _WORD.fullmatch(word)) for word in words]
    assert all(match for _, match in matches), f"no fault is called so: {words}"
    return tuple(
        Fault(word, match["kind"], match["module"], match["name"] or "", int(match["call"]))
        for word, match in matches
        if match
    )


_FAULTS = _asked_for()


def modules() -> set[str]:
    """Return the modules with functions that are to fail."""
    return {fault.module for fault in _FAULTS if fault.name}


def prepare(module: ModuleType) -> None:
    """Let the functions of a module that was just imported count their calls."""
    for fault in _FAULTS:
        if fault.name and fault.module == module.__name__:
            *path, name = fault.name.split(".")
            owner = functools.reduce(getattr, path, module)
            setattr(owner, name, _counted(getattr(owner, name), fault))


def bitsandbytes_called() -> None:
    """Count a call of bitsandbytes' library."""
    for fault in _FAULTS:
        if not fault.name and fault.module == "bitsandbytes":
            fault.count()


def _counted(function: Callable[..., Any], fault: Fault) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        fault.count()
        return function(*arguments, **named)

    return call


def _strike(kind: str) -> None:
    import torch

    if kind == "full":
        torch.ops.rehearsal.fill_cards()
    elif kind == "lost":
        torch.ops.rehearsal.break_cards("unspecified launch failure")
    else:
        os.write(2, _EXIT)
        ctypes.CDLL(None).exit(1)
