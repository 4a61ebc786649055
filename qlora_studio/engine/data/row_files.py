"""Prepared rows on disk: an Arrow stream that `datasets` maps into memory, and a line for each row not simply taken.

In a file of packs each line is a pack: `row` lists the rows in it, and `seq_lengths` their tokens.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy
import pyarrow as pa
from datasets import Dataset

from qlora_studio.core.data.packing import Packs, pack
from qlora_studio.core.data.row_verdict import ReadRow
from qlora_studio.core.errors import StudioError
from qlora_studio.engine.data.tokenized_rows import IGNORED, TokenizedRow
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.foreign import read_json
from qlora_studio.storage.staging import staging_path
from qlora_studio.storage.syncing import sync_file, sync_folder

# The schemas are told, never guessed from the data.
_TOKENS = pa.list_(pa.int32())
SCHEMA = pa.schema([("input_ids", _TOKENS), ("labels", _TOKENS), ("row", pa.int64())])
PACKED_SCHEMA = pa.schema(
    [("input_ids", _TOKENS), ("labels", _TOKENS), ("row", pa.list_(pa.int64())), ("seq_lengths", _TOKENS)]
)
TRAINING, EVALUATION, VERDICTS = "training.arrow", "evaluation.arrow", "verdicts.jsonl"
_TOKENS_AT_ONCE = 1 << 19  # what is in memory while packs are written
_WORD = 4  # bytes of an id or a label


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


def divide(source: Path, *parts: tuple[Any, RowFile]) -> None:
    """Copy each row of `source` to each of the files as often as the numbers (or flags) that come with it say."""
    done = 0
    with pa.OSFile(str(source)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            here = slice(done, done + batch.num_rows)
            done += batch.num_rows
            for copies, target in parts:
                target.append_batch(batch.take(pa.array(numpy.repeat(numpy.arange(batch.num_rows), copies[here]))))


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


@dataclass(frozen=True)
class PackedRow:
    """A row as it stands in a pack: its number, and its ids and labels, both int32 of shape (tokens,)."""

    number: int
    ids: Any
    labels: Any


def packed_dataset(source: Path, limit: int, seed: int) -> tuple[Dataset, str]:
    """Return the rows of a prepared file in packs of at most `limit` tokens, and their fingerprint.

    They are written once, beside `source`; what was written in part, or is damaged, is written again.
    """
    target = source.with_name(f"packed-{seed}.arrow")
    facts = target.with_suffix(".json")
    try:
        return Dataset.from_file(str(target)), str(read_json(facts, inside=facts.parent)["fingerprint"])
    except (OSError, StudioError, ValueError, KeyError, TypeError):
        fingerprint = write_packs(source, target, limit, seed)
        write_atomically(facts, json.dumps({"fingerprint": fingerprint}).encode())
    return Dataset.from_file(str(target)), fingerprint


def write_packs(source: Path, target: Path, limit: int, seed: int) -> str:
    """Write the rows of `source` in packs, all or nothing, and return the fingerprint of what was written."""
    scratch, staging = (staging_path(target.with_suffix(end)) for end in (".rows", ".arrow"))
    try:
        numbers, tokens = _write_flat(source, scratch)
        packs = pack(tokens, limit, seed)
        with scratch.open("rb", buffering=0) as flat, RowFile(staging, PACKED_SCHEMA) as file:
            for batch in _batches(packs, numbers, tokens, flat):
                file.append_batch(batch)
        sync_file(staging)
        staging.replace(target)
        sync_folder(target.parent)
    finally:
        for path in (scratch, staging):
            path.unlink(missing_ok=True)
    return file.fingerprint()


class PackIndex:
    """Finds a row's pack. `row_numbers` are in the order of the packs, int64 of shape (rows,)."""

    def __init__(self, packed: Dataset) -> None:
        self._packed = packed
        lists = [chunk for chunk in packed.data.column("row").chunks if len(chunk)]
        self.row_numbers = numpy.concatenate([chunk.flatten().to_numpy() for chunk in lists] or [numpy.zeros(0, int)])
        counts = numpy.concatenate([chunk.value_lengths().to_numpy() for chunk in lists] or [numpy.zeros(0, int)])
        self._ends = numpy.cumsum(counts)

    def __len__(self) -> int:
        return len(self._ends)

    def pack_of(self, number: int) -> int | None:
        """Return the index of the pack in which the row of a number is trained, None where it is not."""
        found = numpy.flatnonzero(self.row_numbers == number)
        return int(numpy.searchsorted(self._ends, found[0], side="right")) if len(found) else None

    def rows(self, index: int) -> list[PackedRow]:
        """Return the rows of a pack, in its order."""
        whole = self._packed[index]
        ids, labels = (numpy.asarray(whole[name], dtype=numpy.int32) for name in ("input_ids", "labels"))
        ends = numpy.cumsum(whole["seq_lengths"])
        return [
            PackedRow(number, ids[end - size : end], labels[end - size : end])
            for number, size, end in zip(whole["row"], whole["seq_lengths"], ends.tolist(), strict=True)
        ]


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


def _contents(batch: pa.RecordBatch) -> Iterator[pa.Array]:
    """Yield what a fingerprint is taken of: flat values, which do not depend on how rows came in batches."""
    ids, rows = batch.column("input_ids"), batch.column("row")
    yield from (ids.flatten(), batch.column("labels").flatten(), ids.value_lengths())
    if pa.types.is_list(rows.type):
        yield from (rows.flatten(), batch.column("seq_lengths").flatten(), rows.value_lengths())
    else:
        yield rows


def _write_flat(source: Path, scratch: Path) -> tuple[Any, Any]:
    """Write each row's ids and then its labels, one row after another; return the rows' numbers and their tokens."""
    numbers: list[Any] = []
    lengths: list[Any] = []
    with pa.OSFile(str(source)) as file, pa.ipc.open_stream(file) as stream, scratch.open("wb") as out:
        for batch in stream:
            tokens = batch.column("input_ids").value_lengths().to_numpy()
            flat = numpy.empty(2 * int(tokens.sum()), dtype=numpy.int32)
            at = _places(tokens)
            flat[at] = batch.column("input_ids").flatten().to_numpy()
            flat[at + numpy.repeat(tokens, tokens)] = batch.column("labels").flatten().to_numpy()
            out.write(flat.tobytes())
            numbers.append(batch.column("row").to_numpy())
            lengths.append(tokens.astype(numpy.int64))
    return numpy.concatenate(numbers or [numpy.zeros(0, int)]), numpy.concatenate(lengths or [numpy.zeros(0, int)])


def _places(tokens: Any) -> Any:
    """Return where each id stands when each row's ids are followed by its labels; a label stands `tokens` behind."""
    starts = numpy.cumsum(tokens, dtype=numpy.int64) - tokens
    return numpy.arange(int(tokens.sum())) + numpy.repeat(starts, tokens)


def _batches(packs: Packs, numbers: Any, tokens: Any, flat: FileIO) -> Iterator[pa.RecordBatch]:
    offsets = 2 * _WORD * (numpy.cumsum(tokens) - tokens)
    bounds = numpy.flatnonzero(numpy.diff(numpy.cumsum(packs.lengths) // _TOKENS_AT_ONCE, prepend=0, append=-1))
    first = 0
    for last in bounds.tolist():
        if last > first:
            rows = packs.rows[packs.starts[first] : packs.starts[last]]
            ids, labels = _read(flat, offsets[rows], tokens[rows])
            ends = _offsets(packs.lengths[first:last])
            in_pack = packs.starts[first : last + 1] - packs.starts[first]
            columns = [
                pa.ListArray.from_arrays(ends, ids),
                pa.ListArray.from_arrays(ends, labels),
                pa.ListArray.from_arrays(in_pack.astype(numpy.int32), numbers[rows]),
                pa.ListArray.from_arrays(in_pack.astype(numpy.int32), tokens[rows].astype(numpy.int32)),
            ]
            yield pa.record_batch(columns, schema=PACKED_SCHEMA)
        first = last


def _read(flat: FileIO, offsets: Any, tokens: Any) -> tuple[Any, Any]:
    """Return the ids and the labels of rows, each laid end to end."""
    whole = bytearray(2 * _WORD * int(tokens.sum()))
    view = memoryview(whole)
    at = 0
    for offset, size in zip(offsets.tolist(), (2 * _WORD * tokens).tolist(), strict=True):
        flat.seek(offset)
        flat.readinto(view[at : at + size])
        at += size
    found, places = numpy.frombuffer(whole, dtype=numpy.int32), _places(tokens)
    return found[places], found[places + numpy.repeat(tokens, tokens)]


def _offsets(lengths: Any) -> Any:
    return numpy.concatenate(([0], numpy.cumsum(lengths))).astype(numpy.int32)
