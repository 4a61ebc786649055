"""A monkey at the real window: whatever is clicked, typed, dropped and closed, nothing breaks and nothing is stuck.

`python -m tests.ui.monkey` plays longer. Here, a stall is what takes so long on a machine that others use too.
"""

import sys
from collections.abc import Sequence

import pytest

from tests.ui.monkey.actions import Action, drawn
from tests.ui.monkey.shrinking import Rules, played, reduced, shrunk

_ACTIONS = 130
_STALL_SECONDS = 0.4


@pytest.mark.skipif(sys.platform == "win32", reason="the monkey's workers take locks as POSIX has them")
@pytest.mark.parametrize("seed", [5, 8, 10])
def test_nothing_that_a_monkey_does_breaks_the_window(seed: int) -> None:
    rules = Rules(limit=_STALL_SECONDS, new=seed % 3 == 2)
    actions = drawn(seed, _ACTIONS)
    result = played(actions, rules)
    if result.found:
        few = shrunk(actions[: result.at + 1], result.found, rules, tries=12)
        lines = "\n".join(map(str, few))
        pytest.fail(f"{result.words()}\nPlay it again with `python -m tests.ui.monkey --play FILE`:\n{lines}")


def test_actions_follow_from_their_seed_and_fewer_are_the_beginning_of_more() -> None:
    assert drawn(3, 40) == drawn(3, 200)[:40]
    assert drawn(3, 40) != drawn(4, 40)


def test_of_a_failing_sequence_only_what_makes_it_fail_is_left() -> None:
    tried: list[int] = []

    def fails(few: Sequence[int]) -> bool:
        tried.append(len(few))
        return {3, 71} <= {*few}

    assert reduced(range(100), fails, tries=100) == [3, 71]
    assert len(tried) < 60


def test_a_sequence_that_is_played_again_from_its_words_is_the_same() -> None:
    action = drawn(1, 1)[0]
    kind, *numbers = str(action).split()
    assert Action(kind, *map(float, numbers)) == action
