"""Which models fit which card: what the README says is what the command prints."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome

_CARDS = {
    8: "RTX 4060 8 GB",
    12: "RTX 3060 12 GB",
    16: "RTX 4060 Ti 16 GB",
    24: "RTX 4090",
    48: "RTX A6000",
    80: "A100 80 GB",
}
Studio = Callable[..., Outcome]
_README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
_SAID = {int(size): int(models) for size, models in re.findall(r"^\| (\d+) GB \| (\d+)B \|$", _README, re.MULTILINE)}


@pytest.mark.parametrize("size", _CARDS)
def test_the_readme_says_of_each_card_what_the_command_prints(studio: Studio, size: int) -> None:
    found = studio("estimate", "--largest", "--batch", "1", "--length", "1024", "--gpu", _CARDS[size], "--json").report
    assert found["billions"] == _SAID[size]


def test_what_is_said_to_fit_fits_and_the_next_larger_one_does_not(studio: Studio) -> None:
    flags = ("--batch", "1", "--length", "1024", "--gpu", "RTX 4090", "--json")
    verdicts = {
        model: studio("estimate", "--model", model, *flags).report["gpu"]["verdict"]
        for model in (studio("estimate", "--largest", *flags).report["dense"], "Qwen/Qwen3-32B")
    }
    assert list(verdicts.values()) == ["fits", "tight"]


def test_longer_rows_and_a_higher_rank_leave_room_for_less(studio: Studio) -> None:
    def billions(*flags: str) -> int:
        return int(studio("estimate", "--largest", "--gpu", "RTX 4090", *flags, "--json").report["billions"])

    assert billions("--length", "8192") < billions("--length", "1024")
    assert billions("--rank", "256") < billions("--rank", "8")
