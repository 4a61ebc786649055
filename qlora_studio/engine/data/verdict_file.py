"""Every row that is not simply taken, a JSON object a line: the report that the user can save."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from qlora_studio.core.data.row_verdict import ReadRow

VERDICTS = "verdicts.jsonl"


class VerdictFile:
    """Appends to the file. `names` are those of the datasets, `what` is rows or evaluation rows."""

    def __init__(self, path: Path, names: Sequence[str], what: str) -> None:
        self._names, self._what = names, what
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> "VerdictFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        self._file.close()

    def add(self, row: ReadRow, verdict: str = "", reason: str = "") -> None:
        """Write a row with its own verdict, or with another one."""
        place = {"of": self._what, "dataset": self._names[row.source], "file": row.file, "number": row.number}
        what = {"verdict": verdict or str(row.verdict), "reason": reason or row.reason}
        self._write({**place, "line": row.line, "offset": row.offset, **what})

    def add_dropped(self, number: int, line: int, source: int, original: int) -> None:
        """Write a row that was dropped because it repeats another one; rows are told by their numbers, from 0."""
        place = {"of": self._what, "dataset": self._names[source], "number": number, "line": line}
        self._write({**place, "verdict": "duplicate", "reason": f"repeats row {original + 1}"})

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps(line) + "\n")
