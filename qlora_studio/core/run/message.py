"""What travels between worker and everyone else: a JSON object a line, frozen, versioned.

The version rule: a field that is not known is ignored, and a kind that is not known is passed over, so both may be
added at any time. Whoever changes what a known field means raises `PROTOCOL_VERSION`; who reads an event of a higher
version refuses the run, and a worker passes over such a command.
"""

import json
import threading
import time
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from qlora_studio.core.errors import NewerVersion

PROTOCOL_VERSION = 1


class Message(BaseModel):
    """An event or a command. `time` is seconds since the epoch, by the sender's clock."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = PROTOCOL_VERSION
    time: float = Field(default_factory=time.time)

    def to_line(self) -> str:
        """Return the message as one line of JSON with its newline. A NaN becomes null."""
        return self.model_dump_json() + "\n"


class UnionReader:
    """Reads members of a union that are told apart by a field.

    It is built when the first is read, by one thread alone: neither the first paint nor a worker's start waits for it.
    """

    def __init__(self, union: Any, field: str) -> None:
        self._union: Any = Annotated[union, Field(discriminator=field)]
        self._adapter: TypeAdapter[Any] | None = None
        self._lock = threading.Lock()

    def read(self, text: str | bytes) -> Any:
        """Return the member that a JSON text holds. Raises ValueError where it holds none."""
        with self._lock:
            self._adapter = self._adapter or TypeAdapter(self._union)
        return self._adapter.validate_json(text)


def parse_line(reader: UnionReader, line: bytes) -> Any | None:
    """Return the message of a line, or None where it is no message of a kind that this version knows.

    Raises NewerVersion where the line says that it is of a higher version: it is not interpreted.
    """
    try:
        message = reader.read(line)
    except ValueError:
        message = None
    if (_version_of(line) if message is None else message.version) > PROTOCOL_VERSION:
        raise NewerVersion
    return message


def _version_of(line: bytes) -> int:
    """Return what a line says of its version, which is read even where nothing else can be."""
    try:
        version = json.loads(line)["version"]
    except (ValueError, TypeError, KeyError):
        return 0
    return version if isinstance(version, int) else 0
