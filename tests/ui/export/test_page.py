"""The Export page: what, where, one button; and what lies on disk afterwards, with its verification."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.export.formats import parse_format
from qlora_studio.core.run.events import Exported, Failed, PhaseChanged, Progressed, WorkerStarted
from qlora_studio.core.run.job import ExportJob
from qlora_studio.core.run.reports import (
    BasesReport,
    CheckOutcome,
    ExportedFacts,
    MeasuredBase,
    VerificationPlan,
    VerificationPlanned,
    VerificationReport,
)
from qlora_studio.core.run.run_state import RunState, reduce
from qlora_studio.storage.runs.export_folder import ExportManifest, staged_export
from qlora_studio.ui.export.page import ExportPage
from qlora_studio.ui.export.result import CopyBlock
from qlora_studio.ui.export.view import ValueRow, better_base, compared_bases, drives_for, verification_checks
from qlora_studio.ui.state.run_choice import RunChoice
from qlora_studio.ui.state.run_line import PastExport, past_exports

LEFT = Qt.MouseButton.LeftButton


def texts(page: ExportPage) -> str:
    return "\n".join(label.text() for label in page.findChildren(QLabel) if label.isVisibleTo(page))


@pytest.fixture
def run(tmp_path: Path) -> RunChoice:
    return RunChoice(
        path=str(tmp_path / "run"),
        name="support-bot",
        parameters=134_515_008,
        adapter_bytes=19_000_000,
        checkpoints=("400", "200"),
        exports_dir=str(tmp_path / "run" / "exports"),
        base="SmolLM2-135M-Instruct",
    )


@pytest.fixture
def page(qapp: QApplication, run: RunChoice) -> ExportPage:
    page = ExportPage()
    page.resize(900, 900)
    page.show()
    page.render_runs([run], "")
    return page


def test_of_another_run_no_failure_is_told_nor_another_base_offered(page: ExportPage, run: RunChoice) -> None:
    failed = Failed(kind=FailureKind.FINGERPRINT_MISMATCH, message="Another base.")
    other = replace(run, path=run.path + "2", name="other")
    ways: tuple[Callable[[], None], ...] = (
        lambda: page.render_runs([other, run], other.path),
        lambda: page.run.chosen.emit(run.path),
    )
    for way in ways:
        page.render_runs([other, run], run.path)
        page.render_job(reduce(RunState(), failed))
        assert page.notice.isVisible() and page.force_button.isVisible()
        page.render_runs([other, run], run.path)
        assert page.notice.isVisible(), "the same run"
        way()
        assert not page.notice.isVisible() and not page.force_button.isVisible()


def test_an_export_in_the_place_of_another_is_shown_as_it_is_now(page: ExportPage) -> None:
    exported = Exported(format="safetensors", path="/x/merged", size_bytes=1 << 20)
    page.render_results([PastExport(exported)])
    (before,) = page.results()
    page.render_results([PastExport(exported.model_copy(update={"time": 1.0}))])
    assert page.results() == (before,), "the very same"
    page.render_results([PastExport(exported.model_copy(update={"size_bytes": 2 << 20}))])
    assert [card.exported.size_bytes for card in page.results()] == [2 << 20]


def test_a_text_model_alone_is_offered_of_models_that_also_see(page: ExportPage, run: RunChoice) -> None:
    line = page.lines["text_model"]
    assert not line.isVisibleTo(page)
    page.render_runs([replace(run, text_model="Gemma3ForCausalLM")], "")
    assert line.isVisibleTo(page)
    line.wanted.click()
    assert page.job() == ExportJob(run_dir=run.path, formats=["safetensors", "text_model"])
    page.render_runs([run], "")
    assert page.job() == ExportJob(run_dir=run.path, formats=["safetensors"])


def working() -> RunState:
    state = RunState()
    started = WorkerStarted(job="export", studio="0", pid=1)
    progress = Progressed(what="merging", done=64 << 20, total=256 << 20, unit="bytes")
    for event in (started, PhaseChanged(phase="merging"), progress):
        state = reduce(state, event)
    return state


def test_without_a_run_the_page_says_what_to_do_next(qapp: QApplication) -> None:
    page = ExportPage()
    asked: list[bool] = []
    page.training_requested.connect(lambda: asked.append(True))
    assert "No trained run yet" in texts(page)
    assert not page.export_button.isEnabled()
    QTest.mouseClick(page.go_training, LEFT)
    assert asked == [True]


def test_one_click_merges_and_exports_the_run(page: ExportPage, run: RunChoice) -> None:
    asked: list[ExportJob] = []
    page.export_requested.connect(asked.append)
    QTest.mouseClick(page.export_button, LEFT)
    assert asked == [ExportJob(run_dir=run.path, formats=["safetensors"])]


def test_formats_checkpoint_base_and_place_are_chosen(page: ExportPage, run: RunChoice, tmp_path: Path) -> None:
    asked: list[ExportJob] = []
    page.export_requested.connect(asked.append)
    page.lines["gguf"].wanted.click()
    page.lines["adapter"].wanted.click()
    for combo, value in ((page.lines["gguf"].precision, "gguf:bf16"), (page.checkpoint, "200"), (page.base, "nf4")):
        combo.setCurrentIndex(combo.findData(value))
        combo.activated.emit(combo.currentIndex())
    QTest.keyClicks(page.place.line, str(tmp_path))
    QTest.mouseClick(page.export_button, LEFT)
    formats = ["safetensors", "adapter", "gguf:bf16"]
    assert asked == [ExportJob(run_dir=run.path, formats=formats, checkpoint="200", base="nf4", out_dir=str(tmp_path))]


def test_without_a_format_there_is_nothing_to_export(page: ExportPage) -> None:
    page.lines["safetensors"].wanted.click()
    assert not page.export_button.isEnabled()
    page.lines["adapter"].wanted.click()
    assert page.export_button.isEnabled()
    assert page.export_button.text() == "Export"


def disk_words(page: ExportPage) -> str:
    return page._disk.text()


def test_sizes_and_free_space_are_shown(page: ExportPage) -> None:
    assert "about 257 MiB" in texts(page)
    assert "will be written for merged model, " in disk_words(page)
    assert disk_words(page).endswith(" free.")


def test_too_little_space_is_said_and_the_export_cannot_begin(page: ExportPage) -> None:
    run = page.chosen_run()
    assert run is not None
    page.render_runs([replace(run, parameters=1 << 60)], run.path)
    assert "only" in disk_words(page)
    assert "Free" in disk_words(page)
    assert not page.export_button.isEnabled()
    (drive,) = drives_for(replace(run, parameters=1 << 60), [parse_format("gguf")], "")
    assert not drive.fits


def test_progress_is_shown_and_the_export_can_be_stopped(page: ExportPage) -> None:
    asked: list[bool] = []
    page.stop_requested.connect(lambda: asked.append(True))
    page.render_job(working())
    assert "Merging: 64.0 MiB of 256 MiB" in texts(page)
    assert not page.export_button.isEnabled()
    QTest.mouseClick(page.stop, LEFT)
    assert asked == [True]
    page.render_job(working(), stopping=True)
    assert "Stopping …" in texts(page) and not page.stop.isEnabled()
    page.render_job(
        reduce(working(), Failed(kind=FailureKind.DISK_FULL, message="The disk became full.", advice="Free some."))
    )
    assert "The disk became full." in texts(page)
    assert page.export_button.isEnabled()


@pytest.mark.parametrize(("way", "kept"), [("whole", False), ("streamed", True)])
def test_how_a_verification_goes_about_it_is_said_before_it_begins(page: ExportPage, way: str, kept: bool) -> None:
    page.render_job(working())
    assert "held-out tokens" not in texts(page)
    plan = VerificationPlan(way=way, tokens=1280, seconds=252.0)
    page.render_job(reduce(working(), VerificationPlanned(report=plan)))
    assert "1,280 held-out tokens, about 4 min" in texts(page)
    assert ("layer by layer" in texts(page)) is kept is ("What is done is kept" in texts(page))


def test_a_finished_export_shows_folder_commands_and_verification(page: ExportPage, qapp: QApplication) -> None:
    asked: list[str] = []
    page.folder_requested.connect(asked.append)
    page.render_results([past("/models/a b"), past("/models/c", verified=False)])
    qapp.processEvents()  # a card that is added to a page that is open appears with the next event
    first, second = page.results()
    assert (first.chip.text(), second.chip.text()) == ("verified", "verification failed")
    blocks = first.findChildren(CopyBlock)
    assert "vLLM" in texts(page) and "transformers" in texts(page)
    QTest.mouseClick(blocks[0].copy_button, LEFT)
    assert (
        QGuiApplication.clipboard().text()
        == "vllm serve '/models/a b' --host 127.0.0.1 --served-model-name support-bot"
    )
    QTest.mouseClick(first.open_button, LEFT)
    assert asked == ["/models/a b"]
    assert "Same ids" in texts(page)
    assert first.losses.rows() == (
        ValueRow("Base model", ("2.5000", "–")),
        ValueRow("Adapter as trained", ("1.2500", "0.0000")),
    )


def test_a_result_that_is_shown_stays_when_another_comes(page: ExportPage) -> None:
    page.render_results([past("/models/old")])
    old = page.results()[0]
    page.render_results([past("/models/new"), past("/models/old")])
    assert [card.exported.path for card in page.results()] == ["/models/new", "/models/old"]
    assert page.results()[1] is old
    page.render_results([])
    assert page.results() == ()


def test_exports_are_read_from_their_own_manifests(tmp_path: Path) -> None:
    with staged_export(tmp_path / "gguf-q8_0") as staged:
        (staged.path / "model.gguf").write_bytes(b"GGUF" * 100)
        staged.manifest = ExportManifest(format="gguf:q8_0", file="model.gguf")
    (tmp_path / "half-made").mkdir()
    (tmp_path / ".staging-1-x").mkdir()
    found = past_exports(tmp_path)
    assert [(item.exported.format, item.exported.size_bytes, item.report) for item in found] == [
        ("gguf:q8_0", 400, VerificationReport())
    ]
    (tmp_path / "gguf-q8_0" / "verification.json").write_text(json.dumps({"verified": True, "checks": []}))
    assert past_exports(tmp_path)[0].report == VerificationReport(verified=True)


def test_a_check_has_a_level_by_whether_it_passed() -> None:
    report = VerificationReport(
        checks=(CheckOutcome(name="stop_token", passed=True, message="a"), CheckOutcome(name="x", passed=False))
    )
    assert [(check.title, check.level) for check in verification_checks(report)] == [
        ("Stop token", "ok"),
        ("X", "error"),
    ]


def bases(*, made_from: str) -> VerificationReport:
    found = (
        MeasuredBase(base="original", loss=1.25, divergence=0.01),
        MeasuredBase(base="nf4", loss=1.3, divergence=0.0),
    )
    return VerificationReport(bases=BasesReport(bases=found, recommended="original"), base_weights=made_from)


def test_both_bases_stand_beside_each_other_with_the_better_one_named() -> None:
    first, second = compared_bases(bases(made_from="original"))
    assert (first.name, first.values, first.note) == ("Original 16-bit weights", ("1.2500", "0.0100"), "better here")
    assert (second.values, second.note) == (("1.3000", "0.0000"), "")
    assert "what this export was merged into" in better_base(bases(made_from="original"))
    assert "export again" in better_base(bases(made_from="nf4"))
    assert (compared_bases(VerificationReport()), better_base(VerificationReport())) == ((), "")


@pytest.mark.parametrize(
    ("better", "gain", "words"),
    [("nf4", 0.0133, "by 0.0133 ± 0.0040"), ("original", -0.05, "by 0.0500"), ("original", 0.003, "no worse")],
)
def test_it_is_said_by_how_much_a_base_is_better(better: str, gain: float, words: str) -> None:
    found = BasesReport(recommended=better, gain_of_nf4=gain, standard_error=0.002)
    assert words in better_base(VerificationReport(bases=found, base_weights=better))


def past(path: str, *, verified: bool = True) -> PastExport:
    exported = Exported(format="safetensors", path=path, size_bytes=269_000_000)
    checks = (CheckOutcome(name="same_ids", passed=verified, message="3 conversations"),)
    losses = {"base": 2.5, "adapter": 1.25, "gguf": None}
    return PastExport(exported, VerificationReport(verified=verified, checks=checks, losses=losses))


def test_after_a_mismatch_of_the_base_going_on_is_an_act_of_its_own(page: ExportPage) -> None:
    asked: list[ExportJob] = []
    page.force_requested.connect(asked.append)
    assert not page.force_button.isVisible()
    page.render_job(reduce(working(), Failed(kind=FailureKind.DISK_FULL, message="The disk became full.")))
    assert not page.force_button.isVisible()
    page.render_job(
        reduce(working(), Failed(kind=FailureKind.FINGERPRINT_MISMATCH, message="The base is another one."))
    )
    QTest.mouseClick(page.force_button, LEFT)
    assert [job.force for job in asked] == [True]
    assert page.job() is not None
    assert page.job().force is False  # type: ignore[union-attr]


def test_an_importance_matrix_is_offered_where_few_bits_are_wanted(page: ExportPage, run: RunChoice) -> None:
    asked: list[ExportJob] = []
    page.export_requested.connect(asked.append)
    assert not page.importance.isVisible()
    page.lines["gguf"].wanted.click()
    assert not page.importance.isVisible()  # q8_0
    precision = page.lines["gguf"].precision
    for combo, value in ((precision, "gguf:q4_K_M"), (page.importance, "off")):
        combo.setCurrentIndex(combo.findData(value))
        combo.activated.emit(combo.currentIndex())
    assert page.importance.isVisible()
    QTest.mouseClick(page.export_button, LEFT)
    assert asked[0].importance_matrix == "off"


def test_a_result_says_what_it_was_rounded_by(page: ExportPage, tmp_path: Path) -> None:
    facts = ExportedFacts(importance_rows="held-out", importance_tokens=7_900, importance_tensors=14)
    exported = Exported(format="gguf:q4_K_M", path=str(tmp_path), size_bytes=9, facts=facts)
    page.render_results([PastExport(exported, VerificationReport())])
    words = [label.text() for label in page.results()[0].findChildren(QLabel)]
    assert any(
        "importance matrix of 14 tensors, measured on 7,900 tokens of the held-out rows" in text for text in words
    )
