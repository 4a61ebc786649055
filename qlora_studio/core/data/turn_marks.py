"""Marks by which datasets say that a turn is to be learned, or is not."""

from collections.abc import Mapping, Sequence
from typing import Any

from qlora_studio.core.data.row_notes import Fields
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.values import kind_of
from qlora_studio.core.words import say

# Whether a set mark says that the turn is learned: OpenAI's weight, LLaMA-Factory's loss_weight, ms-swift's loss
# and loss_scale, axolotl's train and training, torchtune's masked.
MARKS = {
    "weight": True,
    "loss": True,
    "loss_weight": True,
    "loss_scale": True,
    "loss_mask": True,
    "learn": True,
    "train": True,
    "trained": True,
    "training": True,
    "trainable": True,
    "is_trainable": True,
    "train_on_turn": True,
    "masked": False,
    "is_masked": False,
    "ignore_loss": False,
}
_PARTIAL = ("train_detail", "training_detail")  # axolotl's marks of parts of a turn
MARK_KEYS = frozenset({*MARKS, *_PARTIAL})
_WORDS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def trained_mark(turn: Fields, what: str) -> bool | None:
    """Return whether the marks of a turn have it learned, or None where there is none. Raises RowRefused naming `what`.

    A share between 0 and 1 is refused: a token is learned, or it is not. So are marks of parts of a turn.
    """
    for mark in _PARTIAL:
        if turn.get(mark):
            raise RowRefused(
                say("{what}: {mark} marks parts of it, but a turn is learned as a whole or not", what=what, mark=mark)
            )
    said = {mark: _is_set(value, mark, what) for mark in MARKS if (value := turn.get(mark)) is not None}
    if not said:
        return None
    trained = {value == MARKS[mark] for mark, value in said.items()}
    if len(trained) > 1:
        raise RowRefused(say("{what}: its marks {said} contradict each other", what=what, said=" and ".join(said)))
    return trained.pop()


def unlearned_words(messages: Sequence[Mapping[str, Any]], loss_on: str, count: int) -> tuple[str, ...]:
    """Return in sentences which answers are not learned and why; `count` says how many the mask leaves out.

    Where the template has turns joined, its answers are others than the row's, and only their number is told.
    """
    if not count:
        return ()
    answers = [message.get("trained") for message in messages if message["role"] == "assistant"]
    why: dict[str, list[int]] = {}
    for number, mark in enumerate(answers, 1):
        if mark is False:
            why.setdefault("the row marks it so", []).append(number)
        elif loss_on == "last" and number < len(answers):
            why.setdefault("the run learns from the last answer alone", []).append(number)
        elif loss_on == "marked" and mark is None:
            why.setdefault("the run learns from marked answers alone", []).append(number)
    if sum(map(len, why.values())) != count:
        return (f"Not learned, as marked or chosen: {count:,} of its answers.",)
    return tuple(
        f"{'Answers' if len(numbers) > 1 else 'Answer'} {_list(numbers)} of {len(answers)} "
        f"{'are' if len(numbers) > 1 else 'is'} not learned: {reason}."
        for reason, numbers in why.items()
    )


def _list(numbers: Sequence[int]) -> str:
    """Return `1, 2 and 5`, or `1 to 7` where they follow each other."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return " and ".join(part for part in (", ".join(map(str, numbers[:-1])), str(numbers[-1])) if part)


def _is_set(value: Any, mark: str, what: str) -> bool:
    if isinstance(value, str):
        value = _WORDS.get(value.strip().lower(), value)
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise RowRefused(
        say(
            "{what}: {mark} {kind_of}, but a turn is learned (1) or not (0)",
            what=what,
            mark=mark,
            kind_of=kind_of(value),
        )
    )
