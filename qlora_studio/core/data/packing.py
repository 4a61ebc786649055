"""Several short rows in one sequence: which row stands in which pack.

Best fit decreasing: the longest rows first, each into the fullest pack that still has room for it. Rows are cut at
the max length as they are without packing, and no token beyond that is lost: no row is ever split over two packs.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy


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
