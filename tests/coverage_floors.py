"""Holds the modules that must stay whole to 95 % of their branches:  python -m tests.coverage_floors coverage.json

They hold what a user cannot get back: checkpoints, merged weights, what is trained, and whether it fits. Prints each
module's share, and of those below the floor the lines and branches that no test reaches.
"""

import json
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

FLOOR = 0.95
WHOLE = {
    "checkpoints": ("storage/runs/checkpoint_folder.py", "storage/durable.py"),
    "merge": ("engine/merge/*.py",),
    "masks": ("engine/templates/loss_mask.py",),
    "estimator": tuple(f"core/memory/{name}.py" for name in ("estimator", "formula", "resident", "layer")),
}


def main(path: str) -> int:
    """Print the table; return 1 where a module is below the floor, and where a pattern finds none."""
    files: dict[str, dict[str, Any]] = json.loads(Path(path).read_text("utf-8"))["files"]
    files = {Path(name).as_posix().removeprefix("qlora_studio/"): file for name, file in files.items()}
    below = False
    for subject, patterns in WHOLE.items():
        for pattern in patterns:
            found = {name: file for name, file in files.items() if fnmatch(name, pattern)}
            if not found:
                print(f"{subject}: there is no {pattern} any more")
                below = True
            for name, file in found.items():
                below |= _tell(subject, name, file) < FLOOR
    return int(below)


def _tell(subject: str, name: str, file: dict[str, Any]) -> float:
    """Print a module's line and return its share of branches; a module without any has all where all lines ran."""
    summary = file["summary"]
    of, reached = summary["num_branches"], summary["covered_branches"]
    share = float(reached / of) if of else float(not file["missing_lines"])
    print(f"{share:7.1%}  {subject}: {name}")
    if share < FLOOR:
        print("         lines", *file["missing_lines"])
        print("         branches", *(f"{start}->{end}" for start, end in file["missing_branches"]))
    return share


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
