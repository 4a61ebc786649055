"""What the run's worker hands to each other rank, and what that answers: lines of JSON, by its stdin and stdout."""

from pathlib import Path

from pydantic import BaseModel

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.events import Failed
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.engine.ranks.meeting import Meeting


class GoingOn(BaseModel):
    """Where a run goes on from: a checkpoint at its step, or with none an adapter to start from, or neither."""

    start: Path | None = None
    checkpoint: Path | None = None
    step: int = 0


class RankOrder(BaseModel):
    """What the worker found out and decided before the base is loaded, so that nobody decides it again otherwise.

    `made_from` is what a rank on another machine has to find there, too.
    """

    folder: Path
    rank: int
    count: int
    meeting: Meeting
    config: RunConfig
    base: Path
    going_on: GoingOn
    made_from: Fingerprints | None = None


class RankAnswer(BaseModel):
    """That a rank stands ready to meet the others, and computes in this dtype; or why it ended."""

    compute_dtype: str = ""
    failed: Failed | None = None
