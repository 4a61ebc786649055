"""What was found on a card, kept as it comes: a line of JSON for each fact and each outcome, on the disk at once.

The first line says when, on which card, with which versions and by which command. A test that fails, hangs or takes
the process with it leaves every line before it.
"""

import json
import math
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from qlora_studio.engine.model.environment import environment

FOLDER = Path(__file__).parent.parent / "benchmarks" / "results"
SECONDS = 480.0  # of a card that all of it may take


class Results:
    """One run of the tests on a card. Those of a rehearsed card are no measurements: they lie in another folder."""

    def __init__(self, rehearsed_in: Path) -> None:
        self.is_rehearsed = not torch.version.cuda or "+cpu" in torch.__version__
        self.name = torch.cuda.get_device_name(0)
        self._began = time.monotonic()
        now = datetime.now(UTC)
        folder = rehearsed_in if self.is_rehearsed else FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"gpu-{self.name.lower().replace(' ', '-')}-{now:%Y%m%d-%H%M%S}.jsonl"
        self._write(
            date=now.isoformat(timespec="seconds"),
            card=self.name,
            capability=list(torch.cuda.get_device_capability(0)),
            bytes=torch.cuda.get_device_properties(0).total_memory,
            is_rehearsed=self.is_rehearsed,
            command=" ".join(["pytest", *sys.argv[1:]]),
            environment=environment().model_dump(exclude={"type", "version", "time", "seq"}),
        )

    @property
    def seconds_left(self) -> float:
        """What is left of the time; a processor that rehearses has as much as it wants."""
        return math.inf if self.is_rehearsed else SECONDS - (time.monotonic() - self._began)

    def fact(self, test: str, **facts: Any) -> None:
        """Keep what a test found."""
        self._write(test=test, **facts)

    def _write(self, **line: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")
            file.flush()
            os.fsync(file.fileno())
