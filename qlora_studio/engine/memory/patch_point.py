"""Places in other libraries that the memory tracer replaces. One that changed is named, loudly, instead of ignored."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from unittest import mock

from qlora_studio.core.errors import StudioError


class TracerOutdated(StudioError):
    """A library is not the one that the tracer was written for."""


@dataclass(frozen=True)
class PatchPoint:
    """A function of a library by its path, with the names of its parameters where Python can tell them."""

    module: str
    name: str
    parameters: tuple[str, ...] | None = None

    @property
    def path(self) -> str:
        """The dotted path."""
        return f"{self.module}.{self.name}"

    def current(self) -> Callable[..., Any]:
        """Return what stands there now. Raises TracerOutdated where it is gone or takes other parameters."""
        try:
            owner = importlib.import_module(self.module)
            found: Callable[..., Any] = getattr(owner, self.name)
        except (ImportError, AttributeError) as error:
            raise self._outdated("is gone") from error
        if self.parameters is not None and tuple(inspect.signature(found).parameters) != self.parameters:
            raise self._outdated("takes other parameters than " + ", ".join(self.parameters))
        return found

    def _outdated(self, why: str) -> TracerOutdated:
        library = self.module.split(".")[0]
        return TracerOutdated(
            f"Memory cannot be traced with {library} {_version(library)}: {self.path} {why}.",
            kind="tracer_outdated",
            advice="The instant estimate still holds. Install the versions that this program was released with.",
            detail=self.path,
        )


@contextmanager
def replaced(replacements: dict[PatchPoint, Any]) -> Iterator[None]:
    """Replace functions for a while. Raises TracerOutdated, before anything is replaced, where one is not as known."""
    for point in replacements:
        point.current()
    with ExitStack() as stack:
        for point, replacement in replacements.items():
            stack.enter_context(mock.patch.object(importlib.import_module(point.module), point.name, replacement))
        yield


def _version(library: str) -> str:
    return version(library)
