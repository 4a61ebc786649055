"""What is told of each dataset of a run: in events, reports and on the page."""

from pydantic import BaseModel, ConfigDict

from qlora_studio.core.bounds import Amount, Count, Number


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
    weight: Number = 1.0
    ok: Count = 0
    repaired: Count = 0
    rejected: Count = 0
    untrainable: Count = 0
    dropped: Count = 0
    not_drawn: Count = 0
    training: Count = 0
    evaluation: Count = 0
    seen: Count = 0
    tokens: Amount = 0
    trained_tokens: Amount = 0

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
    ok: Count = 0
    repaired: Count = 0
    rejected: Count = 0
    untrainable: Count = 0
    in_training: Count = 0
    used: Count = 0
