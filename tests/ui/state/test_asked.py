"""What was asked of a worker is said until it is done."""

import pytest

from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.commands import Command, EvaluateNow, Pause, Resume, SaveCheckpoint, Stop
from qlora_studio.core.run.events import CheckpointSaved, Evaluated
from qlora_studio.core.run.run_state import RunState
from qlora_studio.ui.state.asked import Asked, asked_words

TRAINING = RunState(phase=Phase.TRAINING, started=1.0)
SAVED = CheckpointSaved(step=4, name="checkpoint-4", size_bytes=1, seconds=0.1, evaluation_loss=None)
MEASURED = Evaluated(step=4, loss=2.0, perplexity=None)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (Pause(), "Pausing after this step …"),
        (Stop(), "Stopping after this step …"),
        (Stop(save=False), "Stopping without saving after this step …"),
        (SaveCheckpoint(), "Saving a checkpoint after this step …"),
        (EvaluateNow(), "Evaluating after this step …"),
        (None, "Ending the worker …"),
        (Resume(), ""),
    ],
)
def test_each_wish_has_words_until_the_session_is_over_or_another_one(command: Command | None, words: str) -> None:
    asked = Asked(command, TRAINING)
    assert asked_words(asked, TRAINING) == words
    for later in (RunState(phase=Phase.PAUSED, started=1.0), RunState(phase=Phase.TRAINING, started=2.0)):
        assert asked_words(asked, later) == ""


@pytest.mark.parametrize(
    ("command", "done"),
    [
        (SaveCheckpoint(), RunState(phase=Phase.TRAINING, started=1.0, checkpoint=SAVED)),
        (EvaluateNow(), RunState(phase=Phase.TRAINING, started=1.0, evaluation=MEASURED)),
    ],
)
def test_what_was_asked_and_is_done_is_said_no_more(command: Command, done: RunState) -> None:
    assert asked_words(Asked(command, TRAINING), done) == ""


def test_before_the_first_step_nothing_is_said_of_a_step() -> None:
    preparing = RunState(phase=Phase.PREPARING, started=1.0)
    assert asked_words(Asked(Stop(), preparing), preparing) == "Stopping …"
    waiting = RunState(phase=Phase.WAITING, started=1.0)
    assert asked_words(Asked(Resume(), waiting), waiting) == "Going on …"
