"""What the reader says of one row of a dataset."""

from enum import StrEnum
from typing import NamedTuple

from qlora_studio.core.data.example import Example


class RowVerdict(StrEnum):
    """Taken as it is, taken after a change that is named, or left out for a reason that is named."""

    OK = "ok"
    REPAIRED = "repaired"
    REJECTED = "rejected"


class ReadRow(NamedTuple):
    """A row and its verdict.

    `number` counts rows from 0. `line` (from 1) and `offset` (bytes, in the decompressed file) say where it begins.
    Parquet and Arrow have neither: there `line` is the row within the file, from 1, and `offset` is -1.
    `reason` is empty where the verdict is ok. `raw` is the row as it stands in the file, cut for display. `source` is
    the index of its dataset where there are several; `number` then counts through all of them. `unread` are the paths
    of what nobody asked for.
    """

    number: int
    line: int
    offset: int
    verdict: RowVerdict
    reason: str
    example: Example | None
    raw: str
    file: str = ""
    source: int = 0
    unread: tuple[str, ...] = ()


class RowRefused(Exception):
    """Why a row cannot be learned from, in words."""

    @property
    def reason(self) -> str:
        """The words."""
        return str(self.args[0])
