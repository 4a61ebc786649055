"""Prepared rows on disk: an Arrow stream that `datasets` maps into memory, and a line for each row not simply taken.

In a file of packs each line is a pack: `row` lists the rows in it, and `seq_lengths` their tokens.
"""

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy
import pyarrow as pa
from datasets import Dataset

from qlora_studio.core.data.row_verdict import ReadRow
from qlora_studio.engine.data.tokenized_rows import IGNORED, TokenizedRow

# The schemas are told, never guessed from the data.
_TOKENS = pa.list_(pa.int32())
SCHEMA = pa.schema([("input_ids", _TOKENS), ("labels", _TOKENS), ("row", pa.int64())])
PACKED_SCHEMA = pa.schema(
    [("input_ids", _TOKENS), ("labels", _TOKENS), ("row", pa.list_(pa.int64())), ("seq_lengths", _TOKENS)]
)
VERDICTS = "verdicts.jsonl"


class RowFile:
    """A file that rows are appended to. `fingerprint` is a hash of what was written, however it came in batches."""

    def __init__(self, path: Path, schema: pa.Schema = SCHEMA) -> None:
        self.rows = 0
        self._schema = schema
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._sink, schema)
        self._hashes = [sha256() for _ in range(4 if schema is SCHEMA else 6)]

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        self._writer.close()
        self._sink.close()

    def append(self, rows: Sequence[TokenizedRow], numbers: Sequence[int], limit: int) -> None:
        """Append rows with their numbers, each cut at `limit` tokens."""
        ids = [numpy.array(row.ids[:limit], dtype=numpy.int32) for row in rows]
        ends = numpy.cumsum([0, *map(len, ids)], dtype=numpy.int32)
        tokens = numpy.concatenate([numpy.zeros(0, numpy.int32), *ids])
        labels = numpy.full_like(tokens, IGNORED)
        for row, start, end in zip(rows, ends.tolist(), ends[1:].tolist(), strict=False):
            for first, last in row.runs:
                here = slice(start + first, min(start + last, end))
                labels[here] = tokens[here]
        lists = [pa.ListArray.from_arrays(pa.array(ends), pa.array(values)) for values in (tokens, labels)]
        self.append_batch(pa.record_batch([*lists, pa.array(numbers, type=pa.int64())], schema=SCHEMA))

    def append_batch(self, batch: pa.RecordBatch) -> None:
        """Append rows as they are read from another such file."""
        if not batch.num_rows:
            return
        for digest, column in zip(self._hashes, _contents(batch), strict=True):
            digest.update(numpy.ascontiguousarray(column.to_numpy(zero_copy_only=False)).tobytes())
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def fingerprint(self) -> str:
        """Return the hash, in hexadecimal, of the ids, labels and numbers written so far."""
        return sha256(b"".join(digest.digest() for digest in self._hashes)).hexdigest()


def divide(source: Path, copies: Any, held_out: Any, training: RowFile, evaluation: RowFile) -> None:
    """Copy each row of `source` to the one file as often as `copies` says, and to the other where it is held out."""
    done = 0
    with pa.OSFile(str(source)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            here = slice(done, done + batch.num_rows)
            done += batch.num_rows
            training.append_batch(batch.take(pa.array(numpy.repeat(numpy.arange(batch.num_rows), copies[here]))))
            evaluation.append_batch(batch.filter(pa.array(held_out[here])))


def labels_of(source: Path, indices: Sequence[int]) -> Iterator[list[int]]:
    """Yield the labels of some rows of a file; `indices` are sorted."""
    wanted, done = list(indices), 0
    with pa.OSFile(str(source)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream if wanted else ():
            while wanted and wanted[0] < done + batch.num_rows:
                yield batch.column("labels")[wanted.pop(0) - done].as_py()
            done += batch.num_rows
            if not wanted:
                return


def row_lengths(dataset: Dataset) -> Any:
    """Return the tokens of each row, or of each pack, of an opened file, as int32, without reading the rows."""
    chunks = dataset.data.column("input_ids").chunks
    return numpy.concatenate([numpy.zeros(0, numpy.int32), *(chunk.value_lengths().to_numpy() for chunk in chunks)])


def _contents(batch: pa.RecordBatch) -> Iterator[pa.Array]:
    """Yield what a fingerprint is taken of: flat values, which do not depend on how rows came in batches."""
    ids, rows = batch.column("input_ids"), batch.column("row")
    yield from (ids.flatten(), batch.column("labels").flatten(), ids.value_lengths())
    if pa.types.is_list(rows.type):
        yield from (rows.flatten(), batch.column("seq_lengths").flatten(), rows.value_lengths())
    else:
        yield rows


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
