"""Tokenized rows on disk as an Arrow stream that `datasets` maps into memory: `input_ids`, `labels`, `row`."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy
import pyarrow as pa

# The schema is told, never guessed from the data.
SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32())), ("row", pa.int64())])


class RowFile:
    """A file that rows are appended to. `fingerprint` is a hash of what was written, however it came in batches."""

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._sink, SCHEMA)
        self._hashes = [sha256() for _ in range(4)]

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None) -> None:
        self._writer.close()
        self._sink.close()

    def append(self, ids: Sequence[list[int]], labels: Sequence[list[int]], numbers: Sequence[int]) -> None:
        """Append rows given as columns."""
        columns = [
            pa.array(column, type=field.type) for column, field in zip((ids, labels, numbers), SCHEMA, strict=True)
        ]
        self.append_batch(pa.record_batch(columns, schema=SCHEMA))

    def append_batch(self, batch: pa.RecordBatch) -> None:
        """Append rows as they are read from another such file."""
        if not batch.num_rows:
            return
        lengths = batch.column("input_ids").value_lengths()
        values = (batch.column("input_ids").flatten(), batch.column("labels").flatten(), lengths, batch.column("row"))
        for digest, column in zip(self._hashes, values, strict=True):
            digest.update(numpy.ascontiguousarray(column.to_numpy(zero_copy_only=False)).tobytes())
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def fingerprint(self) -> str:
        """Return the hash, in hexadecimal, of the ids, labels and numbers written so far."""
        return sha256(b"".join(digest.digest() for digest in self._hashes)).hexdigest()


def divide(source: Path, copies: Any, held_out: Any, training: RowFile, evaluation: RowFile) -> None:
    """Copy each row of `source` to the one file as often as `copies` says, and to the other where it is held out."""
    done = 0
    with pa.memory_map(str(source)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            here = slice(done, done + batch.num_rows)
            done += batch.num_rows
            training.append_batch(batch.take(pa.array(numpy.repeat(numpy.arange(batch.num_rows), copies[here]))))
            evaluation.append_batch(batch.filter(pa.array(held_out[here])))


def labels_of(source: Path, indices: Sequence[int]) -> Iterator[list[int]]:
    """Yield the labels of some rows of a file; `indices` are sorted."""
    wanted, done = list(indices), 0
    with pa.memory_map(str(source)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream if wanted else ():
            while wanted and wanted[0] < done + batch.num_rows:
                yield batch.column("labels")[wanted.pop(0) - done].as_py()
            done += batch.num_rows
            if not wanted:
                return
