"""A machine with a card that is rehearsed: what each process started in a test finds there."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rehearsal.build import CARD, build, missing_compilers

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]


@pytest.fixture(scope="session")
def libraries(model_cache: Path) -> Path:
    """The folder of the compiled card and of NVIDIA's library."""
    if missing := missing_compilers():
        pytest.skip(f"no card can be compiled without {' and '.join(missing)}")
    return build(model_cache)


@pytest.fixture
def machine(libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Let processes started from now on find the cards of a record; more of the environment is given by name."""

    def start(record: str = "rtx4090", **environment: str) -> Path:
        cards = tmp_path / "cards.txt"
        cards.write_bytes((_HERE / "cards" / f"{record}.txt").read_bytes())
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(_HERE / "site"), str(_ROOT)]))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries))
        monkeypatch.setenv("REHEARSAL_LIBRARY", str(libraries / CARD))
        monkeypatch.setenv("REHEARSAL_CARDS", str(cards))
        monkeypatch.setenv("REHEARSAL_STRUCK", str(tmp_path / "struck.txt"))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return cards

    return start
