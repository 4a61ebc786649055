"""Windows' silent spill, seen in recorded series of steps and told once."""

from qlora_studio.core.quantity import GIB
from qlora_studio.core.run.memory_spill import SpillWatch, StepMemory

TOTAL = 12 * GIB


def _told(*steps: tuple[float, float, float]) -> list[str]:
    """Return what is told of steps given as milliseconds a token, GiB reserved and GiB free."""
    watch = SpillWatch()
    series = [StepMemory(ms / 1000, int(held * GIB), TOTAL, int(free * GIB)) for ms, held, free in steps]
    return [words for step in series if (words := watch.look(step))]


def test_steps_with_room_on_the_card_tell_nothing_however_slow_they_become() -> None:
    assert _told(*[(0.4, 8.0, 3.0)] * 5, *[(4.0, 8.0, 3.0)] * 5) == []


def test_a_full_card_at_its_usual_pace_tells_nothing() -> None:
    assert _told(*[(0.4, 9.0, 2.0)] * 4, *[(0.45, 11.5, 0.1)] * 10) == []


def test_a_card_that_fills_up_while_steps_become_slow_is_told_once() -> None:
    told = _told(*[(0.4, 9.0, 2.0)] * 4, *[(2.9, 11.6, 0.1)] * 10)
    assert len(told) == 1
    assert told[0].startswith("The card's memory is full and steps have become much slower: Windows keeps the rest")


def test_one_slow_step_is_not_a_spill() -> None:
    assert _told(*[(0.4, 9.0, 2.0)] * 4, (2.9, 11.6, 0.1), *[(0.4, 11.6, 0.1)] * 4) == []


def test_more_than_the_card_has_is_a_spill_from_the_first_step_on() -> None:
    (told,) = _told(*[(3.0, 13.5, 0.0)] * 3)
    assert told.startswith("This run holds 1.50 GiB more than the card has: Windows") or "1.5 GiB more" in told
