"""A report of a run holds its figures and its versions, and no word of its user's, wherever one stands."""

import json
import zipfile
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import (
    DataSection,
    DatasetSource,
    EvaluationSection,
    ExportSection,
    LoraSection,
    ModelSection,
    QuantizationSection,
    RunConfig,
)
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run import events as ev
from qlora_studio.storage.run_care.report_pack import write_report
from qlora_studio.storage.run_care.run_label import RunLabel, write_label
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder

MINE = "canary"
TRACE = f'Traceback:\n  File "/home/{MINE}/lib/site-packages/trl/trainer.py", line 12, in step\nValueError: hf_{MINE}\n'
_SAID: tuple[ev.Event, ...] = (
    ev.WorkerStarted(job=MINE, studio="0.1.0", pid=7),
    ev.EnvironmentTold(python="3.12.1", system=MINE, packages={"torch": "2.9.0"}, cards=["NVIDIA RTX 4090"]),
    ev.StepDone(step=3, total_steps=9, epoch=0.5, loss=1.25, learning_rate=1e-4),
    ev.SampleGenerated(step=3, prompt=MINE, answer=MINE),
    ev.TextGenerated(request=1, variant="tuned", text=MINE),
    ev.AdapterSaved(path=f"/home/{MINE}/adapter", step=3),
    ev.Exported(format="adapter", path=f"/home/{MINE}", size_bytes=3),
    ev.AdapterContinued(parent=MINE, run=MINE, stages=[MINE]),
    ev.Warned(kind=MINE, message=MINE),
    ev.Failed(kind=FailureKind.OUT_OF_MEMORY, message=MINE, advice=MINE, detail=TRACE),
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / MINE)
    folder.path.mkdir()
    config = RunConfig(
        name=MINE,
        model=ModelSection(source=f"{MINE}/model", revision=MINE),
        quantization=QuantizationSection(original=MINE),
        data=DataSection(
            path=MINE,
            subset=MINE,
            mapping={MINE: MINE},
            more=[DatasetSource(path=MINE)],
            exclude=[MINE],
            evaluation_path=MINE,
            template_variables={MINE: MINE},
        ),
        lora=LoraSection(rank=24, start_from=MINE),
        evaluation=EvaluationSection(prompts=[MINE]),
        export=ExportSection(formats=["adapter", MINE]),
    )
    folder.write_config(config)
    write_label(folder, RunLabel(name=MINE, tags=(MINE,), note=MINE))
    folder.log_path.write_text(f"{MINE} hf_{MINE}")
    with MessageLogWriter(folder.events_path) as log:
        for event in _SAID:
            log.append(event)
    return folder


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as pack:
        return {name: pack.read(name) for name in pack.namelist()}


def test_no_word_of_the_users_is_in_it_wherever_it_stood(run: RunFolder, tmp_path: Path) -> None:
    place = tmp_path / "report.zip"
    write_report(run, place)
    assert MINE in run.events_path.read_text() and MINE in run.config_path.read_text()
    for name, data in contents(place).items():
        assert MINE.encode() not in data and MINE not in name


def test_the_figures_the_versions_and_the_places_of_a_failure_are_in_it(run: RunFolder, tmp_path: Path) -> None:
    write_report(run, tmp_path / "report.zip")
    found = contents(tmp_path / "report.zip")
    assert set(found) == {"CONTENTS.txt", "settings.json", "events.jsonl"}
    settings = json.loads(found["settings.json"])
    assert settings["lora.rank"] == 24 and settings["training.scheduler"] == "cosine"
    events = {facts["type"]: facts for facts in map(json.loads, found["events.jsonl"].splitlines())}
    assert events["step_done"]["loss"] == 1.25 and events["step_done"]["step"] == 3
    assert events["environment_told"]["packages"] == {"torch": "2.9.0"}
    assert events["environment_told"]["cards"] == ["NVIDIA RTX 4090"]
    assert events["failed"]["kind"] == "out_of_memory"
    assert [place.replace("\\", "/") for place in events["failed"]["places"]] == ["site-packages/trl/trainer.py:12"]
    assert b"Not in it: rows" in found["CONTENTS.txt"]


def test_where_nothing_can_be_written_nothing_is_left_behind(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(StudioError, match="Cannot write"):
        write_report(run, tmp_path / "nowhere" / "report.zip")
    (tmp_path / "taken.zip").mkdir()
    with pytest.raises(StudioError, match="Cannot write"):
        write_report(run, tmp_path / "taken.zip")
    assert not list(tmp_path.glob(".staging-*"))
