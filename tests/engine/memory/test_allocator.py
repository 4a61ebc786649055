"""The model of CUDA's caching allocator, rule by rule."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from qlora_studio.engine.memory.allocator import Block, CachingAllocator, rounded

KIB, MIB = 1 << 10, 1 << 20


def test_sizes_are_rounded_up_to_512_bytes() -> None:
    assert [rounded(size) for size in (1, 512, 513, 1500)] == [512, 512, 1024, 1536]


def test_small_blocks_share_a_segment_of_two_mebibytes() -> None:
    allocator = CachingAllocator()
    allocator.allocate(100)
    allocator.allocate(MIB)
    assert (allocator.allocated, allocator.reserved) == (MIB + 512, 2 * MIB)


def test_middle_sized_blocks_come_from_twenty_mebibytes_and_large_ones_bring_their_own() -> None:
    allocator = CachingAllocator()
    allocator.allocate(MIB + 1)
    assert allocator.reserved == 20 * MIB
    allocator.allocate(25 * MIB + 1)
    assert allocator.reserved == 20 * MIB + 26 * MIB


def test_what_is_too_small_to_split_off_counts_as_allocated() -> None:
    allocator = CachingAllocator()
    allocator.allocate(11 * MIB + 1)
    assert allocator.allocated == 12 * MIB


def test_a_free_block_is_used_again_and_the_best_fitting_first() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.allocate(size * MIB) for size in (40, 12, 30)]
    for block in blocks:
        allocator.free(block)
    reserved = allocator.reserved
    again = allocator.allocate(12 * MIB)
    assert again.address == blocks[1].address
    assert allocator.reserved == reserved


def test_free_neighbours_become_one_block_again() -> None:
    allocator = CachingAllocator()
    pair = [allocator.allocate(8 * MIB), allocator.allocate(8 * MIB)]
    for block in pair:
        allocator.free(block)
    allocator.allocate(19 * MIB + MIB // 2)
    assert allocator.reserved == 20 * MIB


def test_only_segments_that_are_free_as_a_whole_are_given_back() -> None:
    allocator = CachingAllocator()
    kept, freed = allocator.allocate(2 * MIB), allocator.allocate(40 * MIB)
    allocator.free(freed)
    allocator.empty_cache()
    assert allocator.reserved == 20 * MIB
    allocator.free(kept)
    allocator.empty_cache()
    assert allocator.reserved == 0


def test_of_free_blocks_of_one_size_the_newest_segments_is_taken() -> None:
    allocator = CachingAllocator()
    older, newer = allocator.allocate(40 * MIB), allocator.allocate(40 * MIB)
    where = newer.address
    allocator.free(older)
    allocator.free(newer)
    assert allocator.allocate(8 * MIB).address == where


def test_an_expandable_segment_grows_where_a_fixed_one_would_leave_a_hole() -> None:
    reserved = {}
    for expandable in (False, True):
        allocator = CachingAllocator(expandable=expandable)
        hole = allocator.allocate(40 * MIB)
        allocator.free(hole)
        allocator.allocate(60 * MIB)
        reserved[expandable] = allocator.reserved
    assert reserved == {False: 100 * MIB, True: 60 * MIB}


def test_an_expandable_segment_gives_back_free_pages_and_maps_them_again() -> None:
    allocator = CachingAllocator(expandable=True)
    first, last = allocator.allocate(60 * MIB), allocator.allocate(20 * MIB)
    allocator.free(first)
    allocator.empty_cache()
    assert allocator.reserved == 20 * MIB
    again = allocator.allocate(40 * MIB)
    assert again.address == first.address
    assert allocator.reserved == 60 * MIB
    allocator.free(last)
    allocator.free(again)
    allocator.empty_cache()
    assert allocator.reserved == 0


SIZES = st.sampled_from([1, 512, 4 * KIB, 700 * KIB, MIB, MIB + 1, 3 * MIB, 9 * MIB, 10 * MIB, 33 * MIB])


@given(steps=st.lists(st.tuples(SIZES, st.integers(0, 3), st.booleans()), max_size=60), expandable=st.booleans())
def test_whatever_happens_the_books_balance(steps: list[tuple[int, int, bool]], expandable: bool) -> None:
    allocator = CachingAllocator(expandable=expandable)
    live: list[tuple[Block, int]] = []
    for size, victim, empties in steps:
        live.append((allocator.allocate(size), size))
        if victim < len(live) - 1:
            allocator.free(live.pop(victim)[0])
        if empties:
            allocator.empty_cache()
        assert allocator.allocated == sum(block.size for block, _ in live)
        assert all(block.size >= asked for block, asked in live)
        spans = sorted((block.address, block.address + block.size) for block, _ in live)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert allocator.reserved >= allocator.allocated
    for block, _ in live:
        allocator.free(block)
    allocator.empty_cache()
    assert (allocator.allocated, allocator.reserved) == (0, 0)
