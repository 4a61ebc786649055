"""Several short rows in one sequence: which row stands in which pack, and the file of packs that is trained from.

Best fit decreasing: the longest rows first, each into the fullest pack that still has room for it. Rows are cut at
the max length as they are without packing, and no token beyond that is lost: no row is ever split over two packs.
"""

import json
import os
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy
import pyarrow as pa
from datasets import Dataset

from qlora_studio.engine.data.row_files import PACKED_SCHEMA, RowFile

_TOKENS_AT_ONCE = 1 << 19  # what is in memory while packs are written
_WORD = 4  # bytes of an id or a label


@dataclass(frozen=True)
class Packs:
    """Pack i holds `rows[starts[i]:starts[i + 1]]`, indices of rows in the order in which they stand in it.

    `lengths` are the tokens of each pack. All are int64; `starts` has one value more than there are packs.
    """

    rows: Any
    starts: Any
    lengths: Any

    def __len__(self) -> int:
        return len(self.lengths)


def pack(tokens: Any, limit: int, seed: int) -> Packs:
    """Return packs of at most `limit` tokens for rows of so many `tokens` each, none of them longer than `limit`.

    Rows of one length are drawn in an order that `seed` decides, so that neighbours in the file do not stay neighbours.
    How full the packs are depends on the lengths alone.
    """
    tokens = numpy.asarray(tokens, dtype=numpy.int64)
    drawn = numpy.random.default_rng(seed).permutation(len(tokens))
    drawn = drawn[numpy.argsort(-tokens[drawn], kind="stable")]
    pack_of = _assigned(tokens[drawn], limit)
    order = numpy.argsort(pack_of, kind="stable")
    count = int(pack_of.max(initial=-1)) + 1
    starts = numpy.concatenate(([0], numpy.cumsum(numpy.bincount(pack_of, minlength=count))))
    lengths = numpy.bincount(pack_of, weights=tokens[drawn], minlength=count).astype(numpy.int64)
    return Packs(drawn[order], starts.astype(numpy.int64), lengths)


def _assigned(falling: Any, limit: int) -> Any:
    """Return the pack of each row, given the rows' tokens from the longest to the shortest.

    All rows of one length are put away together: into packs of one room at a time, as many into each as fit.
    """
    pack_of = numpy.empty(len(falling), dtype=numpy.int64)
    free: dict[int, Any] = {}  # the packs by the tokens that they still have room for
    rooms: list[int] = []  # the sorted keys of `free`
    packs = 0
    ends = numpy.flatnonzero(numpy.diff(falling, append=-1)) + 1
    at = 0
    for end in ends.tolist():
        length = int(falling[end - 1])
        while at < end:
            index = bisect_left(rooms, length)
            is_new = index == len(rooms)
            room = limit if is_new else rooms[index]
            each = max(1, room // max(1, length))
            needed = -(-(end - at) // each)
            if is_new:
                mine = numpy.arange(packs, packs + needed)
                packs += needed
            else:
                mine, rest = free[room][:needed], free.pop(room)[needed:]
                rooms.pop(index)
                _keep(free, rooms, room, rest)
            put = min(end - at, each * len(mine))
            pack_of[at : at + put] = numpy.repeat(mine, each)[:put]
            at += put
            whole = put // each
            _keep(free, rooms, room - each * length, mine[:whole])
            _keep(free, rooms, room - (put - whole * each) * length, mine[whole : whole + 1])
    return pack_of


def _keep(free: dict[int, Any], rooms: list[int], room: int, packs: Any) -> None:
    """Remember packs that have so much room left."""
    if room <= 0 or not len(packs):
        return
    if room in free:
        free[room] = numpy.concatenate((free[room], packs))
    else:
        free[room] = packs
        rooms.insert(bisect_left(rooms, room), room)


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
        return Dataset.from_file(str(target)), str(json.loads(facts.read_text("utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        fingerprint = write_packs(source, target, limit, seed)
        facts.write_text(json.dumps({"fingerprint": fingerprint}), encoding="utf-8")
    return Dataset.from_file(str(target)), fingerprint


def write_packs(source: Path, target: Path, limit: int, seed: int) -> str:
    """Write the rows of `source` in packs, all or nothing, and return the fingerprint of what was written."""
    scratch, staging = (target.with_name(f".{os.getpid()}-{target.stem}.{end}") for end in ("rows", "arrow"))
    try:
        numbers, tokens = _write_flat(source, scratch)
        packs = pack(tokens, limit, seed)
        with scratch.open("rb", buffering=0) as flat, RowFile(staging, PACKED_SCHEMA) as file:
            for batch in _batches(packs, numbers, tokens, flat):
                file.append_batch(batch)
        staging.replace(target)
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
