"""What is asked of a dataset: the settings that decide what a report says of it. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from qlora_studio.core.config.run_config import RunConfig

T = TypeVar("T")
Question = Callable[[RunConfig], tuple[object, ...]]


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What was found for a draft, so that it is never shown for another one that asks something else."""

    draft: RunConfig
    value: T

    def to(self, question: Question, draft: RunConfig) -> T | None:
        """Return it where a draft asks the same, else None."""
        return self.value if question(draft) == question(self.draft) else None


def rows_question(config: RunConfig) -> tuple[object, ...]:
    """Return what decides which rows there are, and how long each is: the model, too, whose tokens are counted."""
    return config.model, config.data.model_copy(update={"exclude": []})


def row_question(config: RunConfig) -> tuple[object, ...]:
    """Return what decides how each row is trained that is not left out."""
    training = config.training
    return *rows_question(config), training.loss_on, training.max_length, training.packing, training.seed


def lengths_question(config: RunConfig) -> tuple[object, ...]:
    """Return what decides how many tokens there are before any row is cut, and which of them are an answer's."""
    return *rows_question(config), config.data.exclude, config.training.loss_on


def tokens_question(config: RunConfig) -> tuple[object, ...]:
    """Return what decides which tokens are trained, row by row and in all."""
    return *row_question(config), config.data.exclude


def report_question(config: RunConfig) -> tuple[object, ...]:
    """Return what decides every word of a report: padding and steps go by the batch, too."""
    return *tokens_question(config), config.training.batch_size, config.training.gradient_accumulation
