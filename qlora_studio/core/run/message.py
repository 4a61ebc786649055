"""What travels between worker and everyone else: a JSON object a line, frozen, versioned; extra fields are ignored."""

import time
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

PROTOCOL_VERSION = 1


class Message(BaseModel):
    """An event or a command. `time` is seconds since the epoch, by the sender's clock."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = PROTOCOL_VERSION
    time: float = Field(default_factory=time.time)

    def to_line(self) -> str:
        """Return the message as one line of JSON with its newline. A NaN becomes null."""
        return self.model_dump_json() + "\n"


M = TypeVar("M", bound=Message)


def parse_line(adapter: TypeAdapter[Any], line: bytes) -> Any | None:
    """Return the message of a line, or None where it is no message of a kind that this version knows."""
    try:
        return adapter.validate_json(line)
    except ValueError:
        return None
