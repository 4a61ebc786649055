"""What travels between worker and everyone else: a JSON object a line, frozen, versioned.

The version rule: a field that is not known is ignored, and a kind that is not known is passed over, so both may be
added at any time. Whoever changes what a known field means raises `PROTOCOL_VERSION`; who reads an event of a higher
version refuses the run, and a worker passes over such a command. A session is of one version: within it, another is
damage. A damaged line is passed over, counted and told.
"""

import threading
import time
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from qlora_studio.core.bounds import Moment
from qlora_studio.core.errors import NewerVersion

PROTOCOL_VERSION = 1


class Message(BaseModel):
    """An event or a command. `time` is seconds since the epoch, by the sender's clock."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = Field(default=PROTOCOL_VERSION, ge=1)
    time: Moment = Field(default_factory=time.time)

    def to_line(self) -> str:
        """Return the message as one line of JSON with its newline. A NaN becomes null."""
        return self.model_dump_json() + "\n"


class DamagedLine(ValueError):
    """A line that is no message, or says what no worker and no user says."""


class UnionReader:
    """Reads members of a union that are told apart by a field.

    It is built when the first is read, by one thread alone: neither the first paint nor a worker's start waits for it.
    """

    def __init__(self, union: Any, field: str) -> None:
        self._union: Any = Annotated[union, Field(discriminator=field)]
        self._validate: Any = None  # the adapter's own: of a hundred thousand lines each call counts
        self._lock = threading.Lock()

    def read(self, text: str | bytes) -> Any:
        """Return the member that a JSON text holds, each value as it was written. Raises ValidationError."""
        if self._validate is None:
            with self._lock:
                self._validate = self._validate or TypeAdapter(self._union).validator.validate_json
        return self._validate(text, strict=True)


def parse_line(reader: UnionReader, line: bytes) -> Any | None:
    """Return the message of a line, or None where it is of a kind that this version does not know.

    Raises DamagedLine, and NewerVersion where the line says that it is of a higher version: it is not interpreted.
    """
    try:
        message = reader.read(line)
    except ValidationError as error:
        if _version_of(line) > PROTOCOL_VERSION:
            raise NewerVersion from error
        if _is_of_a_later_kind(error):
            return None
        raise DamagedLine from error
    if message.version > PROTOCOL_VERSION:
        raise NewerVersion
    return message


def _is_of_a_later_kind(error: ValidationError) -> bool:
    return error.error_count() == 1 and error.errors(include_input=False)[0]["type"] == "union_tag_invalid"


class _Versioned(BaseModel):
    """What a line says of its version, which is read even where nothing else can be."""

    version: int = 0


def _version_of(line: bytes) -> int:
    try:
        return _Versioned.model_validate_json(line, strict=True).version
    except ValidationError:
        return 0
