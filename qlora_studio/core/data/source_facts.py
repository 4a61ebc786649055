"""What is told of each dataset of a run: in events, reports and on the page."""

from pydantic import BaseModel, ConfigDict


class SourceFacts(BaseModel):
    """A dataset of a run. Counts are rows; `training` and `evaluation` count each row once, `seen` is per epoch.

    `tokens` and `trained_tokens` are per epoch, after the cut. `dropped` rows repeat an earlier one, `not_drawn` ones
    are left out by a weight below 1. `commit` is that of the hub, empty for a file here.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    path: str
    subset: str = ""
    split: str = ""
    commit: str = ""
    weight: float = 1.0
    ok: int = 0
    repaired: int = 0
    rejected: int = 0
    untrainable: int = 0
    dropped: int = 0
    not_drawn: int = 0
    training: int = 0
    evaluation: int = 0
    seen: int = 0
    tokens: int = 0
    trained_tokens: int = 0

    @property
    def total(self) -> int:
        """All rows that were read."""
        return self.ok + self.repaired + self.rejected


class EvaluationFacts(BaseModel):
    """An evaluation dataset of its own. `in_training` rows are left out because a training row says the same."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    path: str
    subset: str = ""
    split: str = ""
    commit: str = ""
    ok: int = 0
    repaired: int = 0
    rejected: int = 0
    untrainable: int = 0
    in_training: int = 0
    used: int = 0
