"""A model of PyTorch's caching allocator on CUDA: what is allocated, and what is held from the driver for it.

After c10/cuda/CUDACachingAllocator.cpp: one stream, default settings or expandable segments. Sizes are bytes.
Of free blocks of one size the allocator takes the lowest address, and Linux's driver maps each new segment below the
ones before it: published runs are met to the megabyte with that order, and missed by whole buffers with the other.
"""

import bisect
from dataclasses import dataclass, field

_UNIT = 512
_SMALL = 1 << 20  # up to here a block comes from the small pool
_SMALL_SEGMENT = 2 << 20
_LARGE_SEGMENT = 20 << 20  # for blocks below 10 MiB, and a page of an expandable segment
_OWN_SEGMENT_FROM = 10 << 20
_SEGMENT_ROUNDING = 2 << 20
_ADDRESS_SPACE = _LARGE_SEGMENT << 26  # more than any segment grows; whole pages


@dataclass(eq=False, slots=True)
class Block:
    """A piece of a segment, with its neighbours in it. An unmapped one is address space without memory behind it."""

    size: int
    address: int
    pool: "_Pool"
    previous: "Block | None" = None
    next: "Block | None" = None
    is_allocated: bool = False
    is_mapped: bool = True

    @property
    def space(self) -> int:
        """The size that a free block can grow to: the last one of an expandable segment to the segment's end."""
        following = self.next
        return self.size + (following.size if following is not None and not following.is_mapped else 0)

    @property
    def is_whole_segment(self) -> bool:
        """Whether nothing was ever split off, or all of it came together again."""
        return self.previous is None and self.next is None


@dataclass(eq=False, slots=True)
class _Pool:
    """Free blocks of one pool, ordered by size and then address."""

    is_small: bool
    free: list[tuple[int, int, Block]] = field(default_factory=list)
    unmapped: Block | None = None  # the end of the expandable segment

    @property
    def page(self) -> int:
        return _SMALL_SEGMENT if self.is_small else _LARGE_SEGMENT

    def add(self, block: Block) -> None:
        bisect.insort(self.free, (block.size, block.address, block), key=lambda entry: entry[:2])

    def remove(self, block: Block) -> None:
        index = bisect.bisect_left(self.free, (block.size, block.address), key=lambda entry: entry[:2])
        assert self.free[index][2] is block
        del self.free[index]

    def take_best(self, size: int) -> Block | None:
        """Take the smallest free block that suffices; of neighbours in that order, one that could not grow."""
        index = bisect.bisect_left(self.free, (size, 0), key=lambda entry: entry[:2])
        if index == len(self.free):
            return None
        while index + 1 < len(self.free) and self.free[index + 1][2].space < self.free[index][2].space:
            index += 1
        return self.free.pop(index)[2]


class CachingAllocator:
    """Counts what a sequence of allocations and frees comes to. `allocated` includes rounding, as torch's own count."""

    def __init__(self, *, expandable: bool = False) -> None:
        self.allocated = self.reserved = 0
        self.peak_allocated = self.peak_reserved = 0
        self._expandable = expandable
        self._small, self._large = _Pool(is_small=True), _Pool(is_small=False)
        self._next_address = _ADDRESS_SPACE << 26

    def allocate(self, size: int) -> Block:
        """Allocate at least `size` bytes."""
        size = rounded(size)
        pool = self._small if size <= _SMALL else self._large
        block = pool.take_best(size) or self._grow(pool, size)
        self._split(block, size)
        block.is_allocated = True
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def free(self, block: Block) -> None:
        """Give a block back to its pool, together with free neighbours."""
        self.allocated -= block.size
        block.is_allocated = False
        block.pool.add(self._merged(block))

    def empty_cache(self) -> None:
        """Give to the driver what can be given: whole free segments, or whole free pages of an expandable one."""
        for pool in (self._small, self._large):
            for _, _, block in list(pool.free):
                if self._expandable:
                    self._unmap(block)
                elif block.is_whole_segment:
                    pool.remove(block)
                    self.reserved -= block.size

    def _grow(self, pool: _Pool, size: int) -> Block:
        if self._expandable:
            return self._map(pool, size)
        self._next_address -= _ADDRESS_SPACE
        block = Block(_segment_size(size), self._next_address, pool)
        self._reserve(block.size)
        return block

    def _reserve(self, size: int) -> None:
        self.reserved += size
        self.peak_reserved = max(self.peak_reserved, self.reserved)

    def _split(self, block: Block, size: int) -> None:
        remaining = block.size - size
        fine = block.pool.is_small or self._expandable
        if remaining >= _UNIT if fine else remaining > _SMALL:
            block.pool.add(_cut(block, size))

    def _merged(self, block: Block) -> Block:
        for neighbour in (block.previous, block.next):
            if neighbour is not None and neighbour.is_mapped and not neighbour.is_allocated:
                block.pool.remove(neighbour)
                block = _joined(block, neighbour)
        return block

    def _map(self, pool: _Pool, size: int) -> Block:
        """Return a free block of at least `size`: the first place where free and unmapped space together suffice."""
        if pool.unmapped is None:
            pool.unmapped = Block(_ADDRESS_SPACE, self._next_address, pool, is_mapped=False)
            self._next_address += 2 * _ADDRESS_SPACE
        block = self._first_space(pool, size)
        if block.is_mapped:
            pool.remove(block)
        else:
            block = self._mapped_part(block, min(size, block.size))
        while block.size < size:
            following = block.next
            assert following is not None
            if following.is_mapped:
                pool.remove(following)
            else:
                following = self._mapped_part(following, min(size - block.size, following.size))
            block = _joined(block, following)
        return block

    def _first_space(self, pool: _Pool, size: int) -> Block:
        for hole in self._holes(pool):
            before = hole.previous
            start = before if before is not None and before.is_mapped and not before.is_allocated else hole
            space, block = 0, start
            while block is not None and not block.is_allocated and space < size:
                space, block = space + block.size, block.next  # type: ignore[assignment]
            if space >= size:
                return start
        raise AssertionError("the end of an expandable segment is unbounded")

    def _holes(self, pool: _Pool) -> list[Block]:
        holes = []
        block = pool.unmapped
        while block is not None:
            if not block.is_mapped:
                holes.append(block)
            block = block.previous
        return holes[::-1]

    def _mapped_part(self, hole: Block, size: int) -> Block:
        mapped = min(hole.size, -(-size // hole.pool.page) * hole.pool.page)
        if mapped < hole.size:
            rest = _cut(hole, mapped)
            if hole.pool.unmapped is hole:
                hole.pool.unmapped = rest
        hole.is_mapped = True
        self._reserve(mapped)
        return hole

    def _unmap(self, block: Block) -> None:
        page, pool = block.pool.page, block.pool
        start = -(-block.address // page) * page
        end = (block.address + block.size) // page * page
        if end <= start:
            return
        pool.remove(block)
        if start > block.address:
            inner = _cut(block, start - block.address)
            pool.add(block)
            block = inner
        if end < block.address + block.size:
            pool.add(_cut(block, end - block.address))
        block.is_mapped = False
        self.reserved -= block.size
        for neighbour in (block.previous, block.next):
            if neighbour is not None and not neighbour.is_mapped:
                was_end = pool.unmapped in (block, neighbour)
                block = _joined(block, neighbour)
                pool.unmapped = block if was_end else pool.unmapped


def rounded(size: int) -> int:
    """Return the size that an allocation of `size` bytes takes, splitting aside."""
    return max(_UNIT, -(-size // _UNIT) * _UNIT)


def _segment_size(size: int) -> int:
    if size <= _SMALL:
        return _SMALL_SEGMENT
    if size < _OWN_SEGMENT_FROM:
        return _LARGE_SEGMENT
    return -(-size // _SEGMENT_ROUNDING) * _SEGMENT_ROUNDING


def _cut(block: Block, size: int) -> Block:
    """Shorten a block to `size` and return the rest as its next neighbour."""
    rest = Block(block.size - size, block.address + size, block.pool, block, block.next, is_mapped=block.is_mapped)
    if block.next is not None:
        block.next.previous = rest
    block.next, block.size = rest, size
    return rest


def _joined(block: Block, neighbour: Block) -> Block:
    """Return one block made of two neighbours, whichever comes first."""
    first, second = (block, neighbour) if block.address < neighbour.address else (neighbour, block)
    first.size += second.size
    first.next = second.next
    if second.next is not None:
        second.next.previous = first
    return first
