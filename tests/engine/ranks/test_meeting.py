"""Machines meet at one address, and each knows soon that another one is gone, and why."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.events import Failed
from qlora_studio.core.run.machines import Machines
from qlora_studio.engine.ranks.meeting import Meeting, listening_store
from qlora_studio.engine.ranks.pulse import Pulse

_MACHINES = Machines(count=2, number=0, host="127.0.0.2", port=29413, interface="lo")
_LISTENS = "0A"


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    yield listening_store(_MACHINES)


def test_machines_meet_at_the_named_address_and_at_no_other(store: Any) -> None:
    """torch's own would listen on every address."""
    port = f"{_MACHINES.port:04X}"
    tables = "".join(Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6"))
    rows = [line.split() for line in tables.splitlines()]
    assert [row[1] for row in rows if row[3] == _LISTENS and row[1].endswith(f":{port}")] == [f"0200007F:{port}"]
    assert Meeting.of(_MACHINES).is_open()


def test_a_port_that_is_taken_is_told_with_what_to_do(store: Any) -> None:
    with pytest.raises(StudioError, match=r"Port 29413 of .* cannot be listened on: ") as caught:
        listening_store(_MACHINES)
    assert caught.value.advice == "Choose another port, on all machines: --meet 127.0.0.2:PORT"


def test_what_ended_a_machine_is_told_by_the_other(store: Any) -> None:
    first, second = Pulse(Meeting.of(_MACHINES), 0, [1]), Pulse(Meeting.of(_MACHINES), 1, [0])
    for pulse in (first, second):
        pulse.start()
    try:
        store.set("failed/1", Failed(kind=FailureKind.OUT_OF_MEMORY, message="It had no memory.").model_dump_json())
        _wait(lambda: first.cause)
        assert first.cause is not None
        assert (first.cause.message, first.cause.kind) == ("Machine 1: It had no memory.", FailureKind.OUT_OF_MEMORY)
        assert second.cause is None
        store.set("ended", "")
        _wait(lambda: second.is_over)
    finally:
        for pulse in (first, second):
            pulse.end()


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
