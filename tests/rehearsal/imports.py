"""What happens as a library is imported: torch gets its card, and functions that are to fail are told so."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

from tests.rehearsal import card, faults


def watch_imports() -> None:
    """Give torch a card, and the libraries their faults, as soon as they are imported."""
    sys.meta_path.insert(0, _Watch({"torch", *faults.modules()}))


class _Watch(importlib.abc.MetaPathFinder):
    def __init__(self, names: set[str]) -> None:
        self._waiting = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module as Python would; what is watched gets more than it has."""
        if fullname not in self._waiting:
            return None
        self._waiting.discard(fullname)
        if fullname == "torch":
            card.load_library()  # before torch first asks whether there is CUDA
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, real: importlib.abc.Loader) -> None:
        self._real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        if module.__name__ == "torch":
            card.put_in()
        faults.prepare(module)
