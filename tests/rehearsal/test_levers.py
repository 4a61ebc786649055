"""What makes a step faster or smaller changes nothing of it: each way is held to another, on a card, in one process."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from tests.rehearsal.machine import environment

pytestmark = pytest.mark.timeout(900)  # the first test waits for all ways
Way = Callable[[str], Any]
_BITS = ("losses", "gradient", "adapter", "held_out")


@pytest.fixture(scope="module")
def way(libraries: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """What came of each way of tests/rehearsal/levers.py, by its name there."""
    folder = tmp_path_factory.mktemp("levers")
    variables = {**environment(libraries, folder), "QLORA_STUDIO_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "tests.rehearsal.levers", str(tiny_llama), str(folder)]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return lambda name: numpy.load(folder / f"{name}.npz")


def difference(one: Any, other: Any) -> float:
    """Return how far two arrays are apart, as a share of the second."""
    return float(numpy.linalg.norm(one - other) / numpy.linalg.norm(other))


@pytest.mark.parametrize(
    "name",
    [
        "as a run has it",
        "padded",
        "padded, in any order",
        "every position scored",
        "batches not joined",
        "one batch of eight",
        "eight batches of one",
        "a base that is kept",
    ],
)
def test_each_way_takes_the_steps_of_plain_trl(way: Way, name: str) -> None:
    """In fp32, where a way that computes something else shows: the same rows make each step, in whatever batches.

    Plain trl's rows are padded, as they come, and scored at every position; they were prepared just then, and all
    others read them from the cache. Sums are the processor's: what a card's kernels round otherwise is not seen here.
    """
    found, plain = way(name), way("plain trl")

    assert found["losses"] == pytest.approx(plain["losses"], rel=1e-6)
    assert difference(found["gradient"], plain["gradient"]) < 1e-5
    assert difference(found["adapter"], plain["adapter"]) < 1e-5


def test_batches_that_fit_the_memory_of_one_are_taken_together(way: Way) -> None:
    assert way("as a run has it")["passes"] < way("batches not joined")["passes"] == way("plain trl")["passes"]


@pytest.mark.parametrize("layers", ["one layer", "all layers"])
def test_layers_that_are_computed_twice_draw_the_same_dropout_and_give_the_same_bits(way: Way, layers: str) -> None:
    """The second time they draw from the card's own random numbers once more."""
    twice, once = way(f"dropout, {layers} checkpointed"), way("dropout")

    assert all(numpy.array_equal(twice[name], once[name]) for name in _BITS)


def test_dropout_is_in_the_steps_of_a_run_that_asks_for_it_and_never_in_its_evaluation(way: Way) -> None:
    """As each run of an earlier version does, in its run.toml: the default was 0.05."""
    with_it, without = way("dropout"), way("as a run has it")

    assert with_it["held_out"] == without["held_out"]
    assert difference(with_it["gradient"][0], without["gradient"][0]) > 0.01


def test_a_base_that_is_read_from_the_cache_gives_the_bits_that_its_files_give(way: Way) -> None:
    kept, loaded = way("a base that is kept"), way("as a run has it")

    assert all(numpy.array_equal(kept[name], loaded[name]) for name in _BITS)


def test_packs_that_are_laid_end_to_end_learn_what_a_mask_would_have_them_learn(way: Way) -> None:
    found, by_mask = way("packs"), way("packs, by a mask")

    assert found["losses"] == pytest.approx(by_mask["losses"], rel=1e-6)
    assert difference(found["gradient"], by_mask["gradient"]) < 1e-5


def test_torchs_attention_for_rows_of_unlike_length_learns_what_padding_does(way: Way) -> None:
    """In bf16, as a card takes it: its arguments mean what they should.

    Its kernels are played, and their own numbers are for a real card (tests/gpu/test_row_attention.py).
    """
    found, padded = way("bf16"), way("bf16, padded")

    assert found["attended"] > 0 == padded["attended"] == way("as a run has it")["attended"]
    assert found["losses"] == pytest.approx(padded["losses"], rel=1e-4)
    assert difference(found["gradient"][0], padded["gradient"][0]) < 0.008


@pytest.mark.parametrize("name", ["padded", "every position scored", "eight batches of one"])
def test_held_out_rows_have_the_same_loss_each_way(way: Way, name: str) -> None:
    assert way(name)["held_out"] == pytest.approx(way("as a run has it")["held_out"], rel=1e-6)
