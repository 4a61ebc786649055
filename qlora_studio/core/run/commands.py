"""What the user asks of a running worker, in the imperative; appended to `commands.jsonl`, read by the worker."""

from typing import Annotated, Any, Literal

from pydantic import Field

from qlora_studio.core.bounds import Count, Names, Number
from qlora_studio.core.errors import NewerVersion
from qlora_studio.core.run.message import Message, UnionReader, parse_line


class Pause(Message):
    """Make the work safe, end the worker, keep the run for later: the whole card is free."""

    type: Literal["pause"] = "pause"


class Stop(Message):
    """End the run; with `save`, the adapter so far is saved as the final one first."""

    type: Literal["stop"] = "stop"
    save: bool = True


class Resume(Message):
    """Go on: what the worker waits for, free disk space, has been seen to."""

    type: Literal["resume"] = "resume"


class LowerRate(Message):
    """Train with the learning rate times `factor` from here on: what a run needs whose loss became infinite."""

    type: Literal["lower_rate"] = "lower_rate"
    factor: Annotated[Number, Field(gt=0, le=1)] = 0.5


class AcceptChanges(Message):
    """Go on although the base model or the dataset is no longer what the run began with."""

    type: Literal["accept_changes"] = "accept_changes"


class SaveCheckpoint(Message):
    """Make the work so far safe now."""

    type: Literal["save_checkpoint"] = "save_checkpoint"


class EvaluateNow(Message):
    """Measure the held-out rows after the current step."""

    type: Literal["evaluate_now"] = "evaluate_now"


class Ask(Message):
    """Answer a conversation, in a chat job. `variants` names which models answer: tuned, base, merged, gguf."""

    type: Literal["ask"] = "ask"
    request: Count
    messages: list[dict[str, str]]
    variants: Names = Field(default_factory=lambda: ["tuned"])
    max_new_tokens: int = 256
    temperature: float = 0.0
    seed: int = 42


class EndAnswers(Message):
    """End the answer that is being given in a chat job, and drop what waits; the model stays loaded."""

    type: Literal["end_answers"] = "end_answers"


class ShowRows(Message):
    """Render and tokenize rows, in a data job: by row number, or `longest`, `shortest`, `random`, `first`."""

    type: Literal["show_rows"] = "show_rows"
    request: Count
    rows: Annotated[list[int | str], Field(max_length=100_000)]
    settings: dict[str, Any] = Field(default_factory=dict)


Command = Pause | Resume | Stop | LowerRate | AcceptChanges | SaveCheckpoint | EvaluateNow | Ask | EndAnswers | ShowRows

_READER = UnionReader(Command, "type")


def parse_command(line: bytes) -> Command | None:
    """Return the command of one line of `commands.jsonl`, or None where it is unknown, or of a later version.

    Raises DamagedLine where it is no command at all, or asks for what cannot be: that is never obeyed.
    """
    try:
        command: Command | None = parse_line(_READER, line)
    except NewerVersion:
        return None
    return command
