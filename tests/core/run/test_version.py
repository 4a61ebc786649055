import json

import pytest

from qlora_studio.core.errors import FailureKind, NewerVersion
from qlora_studio.core.run.commands import parse_command
from qlora_studio.core.run.events import Finished, parse_event
from qlora_studio.core.run.message import PROTOCOL_VERSION, DamagedLine


def line(**fields: object) -> bytes:
    return json.dumps({"time": 1.0, **fields}).encode()


def test_a_line_says_its_version() -> None:
    assert json.loads(Finished().to_line())["version"] == PROTOCOL_VERSION


@pytest.mark.parametrize("kind", ["finished", "enlightened"])
def test_an_event_of_a_higher_version_is_refused_with_what_to_do(kind: str) -> None:
    with pytest.raises(NewerVersion) as caught:
        parse_event(line(type=kind, version=PROTOCOL_VERSION + 1))
    assert caught.value.kind is FailureKind.NEWER_VERSION
    assert "Update QLoRA Studio" in caught.value.advice


def test_an_event_of_a_higher_version_is_refused_even_where_its_fields_are_others() -> None:
    with pytest.raises(NewerVersion):
        parse_event(line(type="step_done", version=PROTOCOL_VERSION + 1, steps={"taken": 1}))


def test_a_field_and_a_kind_that_are_not_known_are_passed_over() -> None:
    event = parse_event(line(type="finished", version=PROTOCOL_VERSION, mood="good"))
    assert isinstance(event, Finished)
    assert parse_event(line(type="enlightened", version=PROTOCOL_VERSION)) is None


@pytest.mark.parametrize("garbage", [b"{", b"[1]", b"7", b'{"version": "x"}', b'{"version": null}', b"\xff"])
def test_garbage_is_damage_and_of_no_version(garbage: bytes) -> None:
    with pytest.raises(DamagedLine):
        parse_event(garbage)


def test_a_worker_passes_over_a_command_of_a_higher_version() -> None:
    assert parse_command(line(type="stop", version=PROTOCOL_VERSION)) is not None
    assert parse_command(line(type="stop", version=PROTOCOL_VERSION + 1)) is None
