"""Which rows are held out for evaluation."""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b


def held_out(keys: Sequence[bytes], share: float, seed: int) -> list[bool]:
    """Return for each row whether it is held out. Rows with equal keys are on the same side.

    Groups of equal keys are taken in an order that only their key and the seed decide, as long as they fit into `share`
    of the rows; so the order of the rows is of no account. At least one row is held out and one is left, except where
    all rows are equal: then none is held out.
    """
    sizes = Counter(keys)
    if share <= 0 or len(sizes) < 2:
        return [False] * len(keys)
    target = max(1, round(share * len(keys)))
    salt = blake2b(str(seed).encode(), digest_size=16).digest()
    order = sorted(sizes, key=lambda key: blake2b(key, digest_size=16, salt=salt).digest())
    taken: set[bytes] = set()
    rows = 0
    for key in order:
        if rows + sizes[key] <= target and len(taken) < len(sizes) - 1:
            taken.add(key)
            rows += sizes[key]
    if not taken:
        taken.add(min(order, key=sizes.__getitem__))
    return [key in taken for key in keys]
