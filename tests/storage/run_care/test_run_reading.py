"""Runs are read for a comparison: once where they have ended, on from there where they go on."""

import shutil
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.events import Event, Finished, StepDone
from qlora_studio.storage.run_care.run_reading import RunReadings
from qlora_studio.storage.runs.event_log import EventLog
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder


def _step(step: int) -> StepDone:
    return StepDone(step=step, total_steps=99, epoch=0.1, loss=1.0, learning_rate=1e-4, tokens=10, seconds=1.0)


def _write(folder: RunFolder, *events: Event) -> None:
    with MessageLogWriter(folder.events_path) as log:
        for event in events:
            log.append(event)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "1-mine")
    folder.write_config(RunConfig(name="mine"))
    _write(folder, *(_step(step) for step in range(1, 11)))
    return folder


def test_of_a_run_that_goes_on_only_what_is_new_is_read(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    taken = EventLog._event

    def noted(log: EventLog, line: bytes) -> Event | None:
        read.append(line)
        return taken(log, line)

    monkeypatch.setattr(EventLog, "_event", noted)
    readings = RunReadings()
    assert readings.read(str(folder.path)).tokens == 100
    _write(folder, _step(11), Finished())
    record = readings.read(str(folder.path), "called otherwise")

    assert (record.name, record.tokens, record.state.phase.is_over) == ("called otherwise", 110, True)
    assert readings.read(str(folder.path)).name == "mine"
    assert len(read) == 12


def test_another_run_in_the_same_place_is_read_from_its_start(folder: RunFolder) -> None:
    readings = RunReadings()
    readings.read(str(folder.path))
    folder.events_path.unlink()
    _write(folder, *(_step(step) for step in range(1, 4)))

    assert readings.read(str(folder.path)).tokens == 30


def test_a_run_that_is_gone_cannot_be_read(folder: RunFolder) -> None:
    readings = RunReadings()
    readings.read(str(folder.path))
    shutil.rmtree(folder.path)

    with pytest.raises(StudioError):
        readings.read(str(folder.path))
