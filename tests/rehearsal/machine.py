"""What a process finds in its environment on a machine whose cards are rehearsed."""

import os
from pathlib import Path

from tests.rehearsal.build import CARD

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]


def record(name: str) -> Path:
    """Return the file that tells of a machine's cards."""
    return _HERE / "cards" / f"{name}.txt"


def environment(libraries: Path, folder: Path, cards: Path | None = None, **more: str) -> dict[str, str]:
    """Return the variables that put the cards of a record, one RTX 4090 by default, into a process.

    `folder` is where is kept which faults have struck; `more` are variables of card.py and faults.py.
    """
    return {
        "PYTHONPATH": os.pathsep.join([str(_HERE / "site"), str(_ROOT), os.environ.get("PYTHONPATH", "")]),
        "LD_LIBRARY_PATH": str(libraries),
        "REHEARSAL_LIBRARY": str(libraries / CARD),
        "REHEARSAL_CARDS": str(cards or record("rtx4090")),
        "REHEARSAL_STRUCK": str(folder / "struck.txt"),
        **more,
    }
