"""Faults of the card, each in a call of a library's function: `REHEARSAL_FAULTS="lost@trl:SFTTrainer.training_step#3"`.

A word is a kind, `@`, the function (its module, `:`, its name there), `#`, and the call in which it strikes:

- `full`: others take what is left of the memory, and keep it.
- `spike`: others take what is left of the memory for a moment; what is allocated next is refused.
- `lost`: the card is gone; whatever is asked of it next fails, in CUDA's words.
- `exit`: the process ends as bitsandbytes' library ends it, by C's exit with one line on stderr.

Of bitsandbytes' own C functions the module is `libbitsandbytes`, as in `exit@libbitsandbytes:cadam32bit_grad_bf16#3`;
without a name it is any of them. A fault strikes once: the file REHEARSAL_STRUCK remembers it for later processes.
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

_WORD = re.compile(r"(?P<kind>full|spike|lost|exit)@(?P<module>[\w.]+)(:(?P<name>[\w.]+))?#(?P<call>\d+)")
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
    return {fault.module for fault in _FAULTS}


def prepare(module: ModuleType) -> None:
    """Let the functions of a module that was just imported count their calls."""
    for fault in _FAULTS:
        if fault.module == module.__name__:
            *path, name = fault.name.split(".")
            owner = functools.reduce(getattr, path, module)
            setattr(owner, name, _counted(getattr(owner, name), fault))


def c_function_called(name: str) -> None:
    """Count a call of one of bitsandbytes' C functions."""
    for fault in _FAULTS:
        if fault.module == "libbitsandbytes" and fault.name in ("", name):
            fault.count()


def _counted(function: Callable[..., Any], fault: Fault) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        fault.count()
        return function(*arguments, **named)

    return call


def _strike(kind: str) -> None:
    import torch

    match kind:
        case "full":
            torch.ops.rehearsal.fill_cards()
        case "spike":
            torch.ops.rehearsal.refuse_next()
        case "lost":
            torch.ops.rehearsal.break_cards("unspecified launch failure")
        case _:
            os.write(2, _EXIT)
            ctypes.CDLL(None).exit(1)
