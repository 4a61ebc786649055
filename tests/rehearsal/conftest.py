"""Machines with cards that are rehearsed, for the processes that a test starts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rehearsal.build import build, missing_compilers
from tests.rehearsal.machine import environment, record


@pytest.fixture(scope="session")
def libraries(model_cache: Path) -> Path:
    """The folder of the compiled card and of NVIDIA's library."""
    if missing := missing_compilers():
        pytest.skip(f"no card can be compiled without {' and '.join(missing)}")
    return build(model_cache)


@pytest.fixture
def machine(libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let processes that are started from now on find the cards of a record, and more of the environment by name."""

    def start(name: str = "rtx4090", **more: str) -> None:
        for variable, value in environment(libraries, tmp_path, record(name), **more).items():
            monkeypatch.setenv(variable, value)

    return start
