"""Importing torch, transformers, peft and bitsandbytes in two thirds of the time that it takes by itself.

Some four thousand modules make a million objects that stay for good. Python's collector of cycles looks through all of
them again and again meanwhile, and through the same ones in every full collection of the training afterwards.

bitsandbytes hands some functions to `torch.compile` as it is imported, and that loads torch's compiler, 500 modules.
With NF4 on a processor or an NVIDIA card none of them is ever called.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any


@contextmanager
def swift_imports(*, torch_is_needed: bool = True) -> Iterator[None]:
    """Import what is imported within without looking for garbage, and without torch's compiler."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        if torch_is_needed:
            with _compiling_later():
                yield
        else:
            yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


@contextmanager
def _compiling_later() -> Iterator[None]:
    """Have functions that are decorated within compiled when they are first called."""
    import torch

    compiled = torch.compile
    setattr(torch, "compile", partial(_compiled_later, compiled))  # noqa: B010  mypy's sake
    try:
        yield
    finally:
        setattr(torch, "compile", compiled)  # noqa: B010  mypy's sake


def _compiled_later(compiled: Callable[..., Any], function: Any = None, **options: Any) -> Any:
    """Do at the first call what `torch.compile` would do at once. What is no plain function is left to it."""
    if function is None:
        return partial(_compiled_later, compiled, **options)
    if not hasattr(function, "__code__"):
        return compiled(function, **options)
    made: list[Any] = []

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not made:
            made.append(compiled(function, **options))
        return made[0](*args, **kwargs)

    return call
