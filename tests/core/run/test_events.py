import json
from typing import Any, get_args

import pytest

from qlora_studio.core.data.report import DataReport, RowPreview, RowsReport, TokenPiece
from qlora_studio.core.run.events import ChangeAccepted, Exported, Finished, parse_event
from qlora_studio.core.run.reports import (
    AnyReported,
    BasesReport,
    DataFacts,
    DatasetReported,
    DownloadFacts,
    ExportFacts,
    MeasuredBase,
    NoFacts,
    Reported,
    RowsReported,
    TrainingFacts,
    VerificationReport,
    VerificationReported,
)

OLD_VERIFICATION = {
    "verified": True,
    "format": "safetensors",
    "checks": [{"name": "files", "passed": True, "message": "All 9 files are as they were written."}],
    "losses": {"base": 2.5, "adapter": None},
    "answers": [{"prompt": "Hi", "adapter": "a", "export": "b", "same": False, "first_difference": 3, "lead": 0.01}],
    "versions": {"torch": "2.9"},
    "path": "/models/x",
}


def parsed(**line: Any) -> Any:
    return parse_event(json.dumps({"version": 1, "time": 1.0, **line}).encode())


def test_each_kind_of_report_is_a_class_with_its_own_word() -> None:
    union, _ = get_args(AnyReported)
    kinds = [kind.model_fields["kind"].default for kind in get_args(union)]
    assert len(kinds) == len(set(kinds)) == len(Reported.__subclasses__())


def test_a_report_keeps_its_shape_in_the_file() -> None:
    line = json.loads(VerificationReported(report=VerificationReport(verified=True, path="/x")).to_line())
    assert (line["type"], line["kind"], line["report"]["path"]) == ("reported", "verification", "/x")


def test_a_report_written_before_there_were_models_is_read() -> None:
    event = parsed(type="reported", kind="verification", report=OLD_VERIFICATION)
    assert isinstance(event, VerificationReported)
    assert (event.report.checks[0].name, event.report.answers[0].lead) == ("files", 0.01)
    assert event.report.bases is None


def test_a_report_of_a_later_kind_is_passed_over() -> None:
    assert parsed(type="reported", kind="horoscope", report={"sign": "cancer"}) is None


def test_what_a_later_version_adds_to_a_report_is_passed_over() -> None:
    event = parsed(type="reported", kind="awake", report={"active": True, "until": "dawn"})
    assert event is not None and event.report.active


def test_tokens_survive_their_way_through_the_file() -> None:
    row = RowPreview(number=0, line=1, verdict="ok", tokens=(TokenPiece(id=7, string="é", trained=True),))
    event = parse_event(RowsReported(report=RowsReport(rows=(row,))).to_line().encode())
    assert isinstance(event, RowsReported) and event.report.rows == (row,)


def test_a_dataset_survives_its_way_through_the_file() -> None:
    told = DatasetReported(report=DataReport(path="/d.jsonl", format="messages"))
    assert parse_event(told.to_line().encode()) == told


def test_a_loss_that_was_no_number_is_none() -> None:
    bases = BasesReport(bases=(MeasuredBase(base="nf4", loss=float("nan")),))
    event = parse_event(VerificationReported(report=VerificationReport(bases=bases)).to_line().encode())
    assert isinstance(event, VerificationReported) and event.report.bases is not None
    assert event.report.bases.bases[0].loss is None


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"steps": 8, "adapter_dir": "/a", "status": "completed", "exports": {}, "verified": True}, TrainingFacts),
        ({"verified": True, "checks": [{"name": "files", "passed": True}], "out_dir": "/o"}, ExportFacts),
        ({"path": "/m", "source": "a/b"}, DownloadFacts),
        ({"refused": ""}, DataFacts),
        ({"url": "https://x", "files": ["a"]}, NoFacts),
        ({}, NoFacts),
    ],
)
def test_what_a_job_of_an_earlier_version_finished_with_is_read(facts: dict[str, Any], kind: type) -> None:
    event = parsed(type="finished", status="completed", facts=facts)
    assert isinstance(event, Finished) and type(event.facts) is kind


def test_an_export_of_an_earlier_version_is_read() -> None:
    facts = {"file": "model.gguf", "tensors_merged": 3, "tensors": 9, "seconds": 1.5, "peak_rss_bytes": 5, "x": 1}
    event = parsed(type="exported", format="gguf:q8_0", path="/x", size_bytes=4, facts=facts)
    assert isinstance(event, Exported)
    assert (event.facts.file, event.facts.tensors_merged, event.facts.checkpoint) == ("model.gguf", 3, "")


def test_an_accepted_change_of_an_earlier_version_is_read() -> None:
    files = {"config.json": {"size": 2, "sha256": "ab" * 32}, "the training rows": "cd"}
    event = parsed(type="change_accepted", what="data", step=4, changes=["x"], fingerprint={"files": files})
    assert isinstance(event, ChangeAccepted) and event.fingerprint.model_dump() == {"files": files}
