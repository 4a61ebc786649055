"""Errors in what overrides a method of Qt, such as a showEvent: reported like any other, and the window lives on.

WORKAROUND: before Python 3.12, an error that C raises ("math domain error") travels as its text alone until somebody
catches it. Where Python itself called Qt, which called the method, PySide (6.11 at least) takes that text for an error,
to put the method's name before it, and the process crashes. While another error is being handled, Python makes each new
one whole at once; so the window lives within one.
"""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class _Handled(Exception):
    """What is being handled as long as the window is there."""


def with_whole_errors(call: Callable[[], T]) -> T:
    """Call something that runs an event loop."""
    try:
        raise _Handled
    except _Handled:
        return call()


def forget_handled(error: BaseException) -> None:
    """Have an error say nothing of the one that was being handled all the time."""
    seen = error
    while seen.__context__ is not None and not isinstance(seen.__context__, _Handled):
        seen = seen.__context__
    seen.__context__ = None
