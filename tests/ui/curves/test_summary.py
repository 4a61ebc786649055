"""A plot is told in a sentence a curve: the newest value, where it is, and where it goes."""

import numpy as np
import pytest

from qlora_studio.core.run.metric_history import Floats
from qlora_studio.ui.curves.curve import Curve, Plot
from qlora_studio.ui.curves.summary import summary

_X = np.arange(1.0, 401)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (3 - _X / 200, "train 1.000 at step 400, falling"),
        (1 + _X / 200, "train 3.000 at step 400, rising"),
        (np.full(400, 2.0), "train 2.000 at step 400, level"),
        (np.where(_X == 7, 2.5, np.nan), "train 2.500 at step 7"),
        (np.where(_X <= 300, 3 - _X / 200, np.nan), "train 1.500 at step 300, falling"),
    ],
)
def test_a_curve_is_told_by_its_newest_value_and_whether_it_falls(y: Floats, words: str) -> None:
    assert summary(Plot("Loss", (Curve("train", _X, y),))) == words


def test_a_noisy_curve_is_told_by_its_average_with_its_unit() -> None:
    noise = np.where(_X % 2 == 0, 500.0, 1.0)
    curve = Curve("throughput", _X, noise, smooth=np.full(400, 250.0))
    assert summary(Plot("Throughput", (curve,), unit="tokens/s")) == "throughput 250.0 tokens/s at step 400, level"


def test_hidden_curves_are_named_and_an_empty_plot_says_why() -> None:
    curves = (Curve("train", _X, _X), Curve("evaluation", _X, _X))
    told = summary(Plot("Loss", curves, hidden=frozenset({"evaluation"})))
    assert told == "train 400.0 at step 400, rising; evaluation is hidden"
    assert summary(Plot("Loss", (), nothing="Not yet.")) == "Not yet."
