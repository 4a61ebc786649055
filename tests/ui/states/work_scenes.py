"""Model, Data and Training, with what a person meets there."""

import json
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run import events as ev
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.run_state import RunState, fold
from qlora_studio.storage.presets import load_preset
from qlora_studio.ui.data.page import DataPage
from qlora_studio.ui.model.page import ModelPage
from qlora_studio.ui.training.page import TrainingPage
from tests.ui.states.stage import Stage

_STARTED = ev.WorkerStarted(job="download", studio="0", pid=1)


def work_scenes(stage: Stage) -> None:
    """Show the three pages in their states."""
    for name, scenes in {"model-": _model_scenes, "data-": _data_scenes, "training-": _training_scenes}.items():
        if stage.looks.wants_any(name):
            scenes(stage)


def _model_scenes(stage: Stage) -> None:
    page, draft = stage.show(ModelPage), stage.studio.draft
    stage.rest(1.0)
    stage.shoot("model-chosen")
    stage.shoot("model-chosen-end", end=True)
    for name, source in {
        "model-gated": "meta-llama/Llama-3.1-8B-Instruct",
        "model-too-large": "Qwen/Qwen2.5-72B-Instruct",
        "model-missing": "/nowhere/a-model-that-was-moved",
        "model-foreign-code": str(_foreign_code(stage.home)),
    }.items():
        draft.set_values({"model.source": source})
        stage.rest(1.0)
        stage.shoot(name)
    page.clear_error()
    page.render_model(None, None, "The model's files are looked at …")
    stage.shoot("model-checking")
    draft.set_values({"model.source": "Qwen/Qwen3-4B"})
    stage.rest(1.0)
    page.render_download(_downloading(), source="Qwen/Qwen3-4B")
    stage.shoot("model-downloading")
    failure = ev.Failed(
        kind=FailureKind.HUB_REFUSED,
        message="The hub did not answer for a minute: 1.9 GiB of 7.6 GiB are here.",
        advice="Download it again: what is here stays.",
    )
    page.render_download(fold(_downloading(), [failure]))
    stage.shoot("model-download-failed")
    page.render_download(None)
    page.clear_error()


def _downloading() -> RunState:
    progress = ev.Progressed(what="downloading", done=2_040_109_465, total=8_160_437_862, unit="bytes")
    return fold(RunState(), [_STARTED, ev.PhaseChanged(phase=Activity.DOWNLOADING), progress])


def _foreign_code(home: Path) -> Path:
    folder = home / "a-model-with-code"
    folder.mkdir()
    config = {"model_type": "phi9", "auto_map": {"AutoModelForCausalLM": "modeling_phi9.Phi9ForCausalLM"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_phi9.py").write_text("import os\n")
    return folder


def _data_scenes(stage: Stage) -> None:
    draft = stage.studio.draft
    draft.replace(load_preset("starter"))
    page = stage.show(DataPage)
    page.render_job(fold(RunState(), [_STARTED, ev.PhaseChanged(phase=Activity.READING_DATA)]))
    stage.shoot("data-reading")
    _read(stage)
    stage.shoot("data-read")
    stage.shoot("data-read-end", end=True)
    page.xray.picks["longest"].click()
    stage.rest(2.0)
    page.xray.more.click()
    stage.shoot("data-xray-record")
    page.xray.more.click()
    draft.set_values({"training.max_length": 48})
    _read(stage)
    stage.shoot("data-cut-off")
    page.change.click()
    stage.shoot("data-change")
    page.change.click()
    draft.set_values({"data.path": str(_mixed(stage.home)), "training.max_length": 1024})
    _read(stage)
    stage.shoot("data-refusals")
    stage.shoot("data-refusals-end", end=True)
    draft.set_values({"data.path": str(_table(stage.home))})
    _read(stage)
    stage.shoot("data-columns")
    draft.set_values({"data.path": "/nowhere/tickets.jsonl"})
    _read(stage)
    stage.shoot("data-missing")
    draft.set_values({"data.path": str(_table(stage.home)), "model.source": ""})
    stage.rest(3.0)
    stage.shoot("data-no-model")


def _read(stage: Stage) -> None:
    """Wait until the worker has looked the rows through."""
    stage.rest(1.0)
    store = stage.studio.data.store
    stage.wait(lambda: store.state.failure is not None or store.state.activity == Activity.READY)
    stage.rest(1.0)


def _mixed(home: Path) -> Path:
    """Some good rows, doubles, empty ones, and what is no JSON."""
    path = home / "tickets-of-september.jsonl"
    asked = [{"role": "user", "content": f"Where is order {number}?"} for number in range(1, 80)]
    good = [
        {"messages": [question, {"role": "assistant", "content": "On it." * number}]}
        for number, question in enumerate(asked, 1)
    ]
    bad = ["{not json", '{"messages": []}', json.dumps({"messages": [{"role": "user", "content": "hi"}]}), '{"a": 1}']
    path.write_text("\n".join([*(json.dumps(row) for row in good), *bad * 3, *(json.dumps(good[0]) for _ in range(5))]))
    return path


def _table(home: Path) -> Path:
    path = home / "questions.csv"
    rows = [f'"Frage {n}","Antwort {n}, mit einem Komma","{n % 3}"' for n in range(60)]
    path.write_text("\n".join(["Frage,Entgegnung,Stufe", *rows]))
    return path


def _training_scenes(stage: Stage) -> None:
    draft = stage.studio.draft
    draft.replace(load_preset("starter"))
    page = stage.show(TrainingPage)
    _read(stage)
    stage.shoot("training-fits")
    stage.shoot("training-fits-end", end=True)
    for section in page.form.sections:
        section.fold.setChecked(True)
    stage.shoot("training-advanced")
    stage.shoot("training-advanced-end", end=True)
    for section in page.form.sections:
        section.fold.setChecked(False)
    page.preset_requested.emit("8b-24gb")
    stage.shoot("training-offer")
    draft.take_offer()
    stage.shoot("training-taken")
    draft.forget_offer()
    draft.replace(
        load_preset("starter")
        .with_value("training.max_length", 8192)
        .with_value("training.batch_size", 64)
        .with_value("training.packing", True)
    )
    _read(stage)
    stage.shoot("training-does-not-fit")
    field = page.form.line("training.learning_rate").field
    field.setFocus()
    QTest.keyClick(field, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClicks(field, "0")
    page.start_button.click()
    stage.rest()
    stage.wait(lambda: page.notice.isVisible())
    stage.shoot("training-problems")
    draft.replace(load_preset("starter"))
    stage.show_card("two")
    stage.rest(1.0)
    stage.shoot("training-two-cards")
    stage.show_card("four")
    stage.studio.draft.set_value("hardware.gpus", "all")
    stage.rest(1.0)
    stage.shoot("training-four-cards")
    stage.show_card("alone")
