"""Which rows are trained on, how often in an epoch, and which are held out for evaluation.

Rows are told by two keys, 64 bits each: rows with equal exact keys say the same, rows with equal near keys almost the
same. Arrays have one value for each row that can be trained, in the order of the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import numpy
from numpy.typing import NDArray

Keys = NDArray[numpy.uint64]
Flags = NDArray[numpy.bool_]


@dataclass(frozen=True)
class RowPlan:
    """What becomes of each row. At most one of the flags is set; the others are trained on, `copies` times an epoch."""

    repeats: Flags
    not_drawn: Flags
    held_out: Flags
    copies: NDArray[numpy.int16]


def plan_rows(
    keys: Keys,
    near_keys: Keys,
    sources: NDArray[numpy.integer[Any]],
    *,
    weights: Sequence[float],
    duplicates: Literal["keep", "drop_exact", "drop_near"],
    share: float,
    seed: int,
) -> RowPlan:
    """Return the plan of rows that come from several `sources`, each an index into `weights`.

    First duplicates go: of equal rows the first stays. Then a weight below 1 leaves rows undrawn, in training and in
    evaluation alike. Then `share` of the rest is held out, near duplicates together. At last weights above 1 repeat
    training rows: 2.5 sees each twice, and a half of them once more.
    """
    repeats = numpy.zeros(len(keys), dtype=bool)
    if duplicates != "keep":
        repeats = repeated(keys if duplicates == "drop_exact" else near_keys)
    usable = ~repeats
    for source, weight in enumerate(weights):
        if weight < 1:
            mine = numpy.flatnonzero(usable & (sources == source))
            wanted = max(1, round(weight * len(mine)))
            usable[mine[~_drawn(len(mine), wanted, f"{seed}:{source}:draw")]] = False
    held = numpy.zeros(len(keys), dtype=bool)
    held[usable] = held_out(near_keys[usable], share, seed)
    copies = numpy.zeros(len(keys), dtype=numpy.int16)
    for source, weight in enumerate(weights):
        mine = numpy.flatnonzero(usable & ~held & (sources == source))
        whole = max(1, int(weight))
        more = round((weight - whole) * len(mine)) if weight > 1 else 0
        copies[mine] = whole + _drawn(len(mine), more, f"{seed}:{source}:repeat")
    return RowPlan(repeats, ~usable & ~repeats, held, copies)


def repeated(keys: Keys) -> Flags:
    """Return which rows equal an earlier one."""
    flags: Flags = first_of(keys) != numpy.arange(len(keys))
    return flags


def first_of(keys: Keys) -> NDArray[numpy.int64]:
    """Return the index of the first row that each row equals: its own, where it is the first."""
    _, first, members = numpy.unique(keys, return_index=True, return_inverse=True)
    return first[members]


def held_out(keys: Keys, share: float, seed: int) -> Flags:
    """Return for each row whether it is held out. Rows with equal keys are on the same side.

    Groups of equal keys are taken in an order that only their key and the seed decide, as long as they fit into `share`
    of the rows; so the order of the rows is of no account. At least one row is held out and one is left, except where
    all rows are equal: then none is held out.
    """
    groups, members, sizes = numpy.unique(keys, return_inverse=True, return_counts=True)
    taken = numpy.zeros(len(groups), dtype=bool)
    if share <= 0 or len(groups) < 2:
        return taken[members]
    target, rows, left = max(1, round(share * len(keys))), 0, len(groups)
    order = numpy.argsort(_mixed(groups, str(seed)), kind="stable")
    for group in order.tolist():
        if rows == target or left == 1:
            break
        if rows + sizes[group] <= target:
            taken[group] = True
            rows += int(sizes[group])
            left -= 1
    if not rows:
        taken[order[sizes[order].argmin()]] = True
    return taken[members]


def _drawn(count: int, wanted: int, seed: str) -> Flags:
    """Return flags of which `wanted` of `count` are set."""
    flags = numpy.zeros(count, dtype=bool)
    flags[numpy.argsort(_mixed(numpy.arange(count, dtype=numpy.uint64), seed), kind="stable")[:wanted]] = True
    return flags


def _mixed(values: Keys, seed: str) -> Keys:
    """Return SplitMix64 of each value and the seed (Steele et al. 2014): an order of no pattern, equal everywhere."""
    salt = int.from_bytes(blake2b(seed.encode(), digest_size=8).digest(), "little")
    mixed = values ^ numpy.uint64(salt)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> numpy.uint64(shift))) * numpy.uint64(factor)
    return mixed ^ (mixed >> numpy.uint64(31))
