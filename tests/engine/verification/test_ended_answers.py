"""Answers that a model is asked for anew are the shortest held-out ones, and a model that does not end is told of."""

from qlora_studio.core.run.reports import EndsReport
from qlora_studio.engine.verification.ended_answers import ended_answers
from qlora_studio.engine.verification.measurement import Rows

_STOP = 9


def test_the_shortest_answers_are_asked_for_up_to_where_the_last_one_begins() -> None:
    long = ((1, 2, 3, 4, 5, 6, _STOP), (-100, -100, 3, 4, 5, 6, _STOP))
    two = ((1, 2, _STOP, 3, 4, _STOP), (-100, 2, _STOP, -100, 4, _STOP))
    cut = ((1, 2, 3), (-100, 2, 3))
    found = ended_answers(Rows((long, two, cut)), [_STOP])
    assert [(answer.prompt, answer.tokens) for answer in found] == [((1, 2, _STOP, 3), 17), ((1, 2), 20)]


def test_a_model_that_seldom_ends_is_warned_of_and_one_that_does_is_not() -> None:
    sure = EndsReport(answers=8, before=0.1, after=0.9, export=0.9, lowest=0.5, asked=4, stopped=3)
    assert not sure.warning
    assert "90.0%" in sure.words and "3 of 4" in sure.words and "10.0%" in sure.words
    assert "may not stop" in sure.model_copy(update={"export": 0.2}).warning
    assert "may not stop" in sure.model_copy(update={"stopped": 1}).warning
