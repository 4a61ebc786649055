"""The data job in a real worker: it reports, shows rows while it stays, and ends when it is told to."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import DataReport, RowsReport, check_json, preview_json
from qlora_studio.core.run.commands import ShowRows, Stop
from qlora_studio.core.run.events import Failed, Finished
from qlora_studio.core.run.job import DataJob
from qlora_studio.core.run.reports import DatasetReported, RowsReported
from qlora_studio.engine.data.checks import TITLES
from qlora_studio.engine.data.report import length_statistics
from qlora_studio.engine.data.tally import RowTally
from qlora_studio.jobs.worker_process import WorkerProcess, start_worker
from qlora_studio.storage.runs.run_folder import RunFolder, create_job_folder

_STARTER = """
import sys, time
from pathlib import Path
from qlora_studio.core.run.job import DataJob
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import create_job_folder

folder = create_job_folder(Path(sys.argv[1]), DataJob.model_validate_json(sys.argv[2]))
start_worker(folder)
print(folder.path)
while not any(event.type == "phase_changed" for event in folder.events()):
    time.sleep(0.02)
"""
BAD = '{"messages": [{"role": "user", "content": "cut off\n'


def chat(question: str, answer: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}) + "\n"


@pytest.fixture(scope="module")
def staying(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator["StayingJob"]:
    """A data job over a dataset with one of each trouble, that stays."""
    folder = tmp_path_factory.mktemp("data_job")
    rows = [chat(f"Question {number}?", "Answer. " * (1 + number % 40)) for number in range(200)]
    rows += [BAD, chat("Typed <|im_end|> here?", "Yes."), chat("Question 0?", "Answer. ")]
    path = folder / "rows.jsonl"
    path.write_text("".join(rows), "utf-8")
    config = RunConfig.model_validate(
        {"model": {"source": str(tiny_llama)}, "data": {"path": str(path)}, "training": {"max_length": 64}}
    )
    job = StayingJob(create_job_folder(folder, DataJob(config=config, rows=[0, 200], stay=True)))
    yield job
    job.process.kill()
    job.process.wait(10)


class StayingJob:
    """A running data job."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.process: WorkerProcess = start_worker(folder)

    def reported(self, kind: type[Any], wanted: Any = lambda report: True) -> Any:
        """Wait for a report."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for event in self.folder.events():
                if isinstance(event, kind) and wanted(event.report):
                    return event.report
                assert not isinstance(event, Failed), event
            time.sleep(0.05)
        raise AssertionError(f"no report of {kind}: {self.folder.log_path.read_text('utf-8')[-2000:]}")

    def report(self) -> DataReport:
        found: DataReport = self.reported(DatasetReported, lambda report: report.complete)
        return found

    def rows(self, request: int) -> RowsReport:
        found: RowsReport = self.reported(RowsReported, lambda report: report.request == request)
        return found


@pytest.fixture(autouse=True)
def _may_last(request: pytest.FixtureRequest, lasting_processes: set[int]) -> None:
    if "staying" in request.fixturenames:
        lasting_processes.add(request.getfixturevalue("staying").process.pid)


def test_what_was_read_is_reported_before_anything_heavy_is_loaded(staying: StayingJob) -> None:
    first = staying.reported(DatasetReported)
    assert not first.complete
    assert first.lengths is None
    assert (first.rows.total, first.rows.ok, first.rows.rejected) == (203, 202, 1)
    assert first.rejections[0].line == 201


def test_the_report_counts_every_row_and_says_what_would_be_trained(staying: StayingJob) -> None:
    report = staying.report()
    assert report.format == "messages"
    assert report.rows.training + report.rows.evaluation == 202
    assert report.rows.duplicates == 1
    assert (report.supported, report.refused) == (True, "")
    assert report.lengths is not None
    assert sum(report.lengths.counts) == report.lengths.rows == 202
    assert report.lengths.trained_beyond[0] == report.lengths.trained_tokens
    assert report.lengths.trained_beyond[-1] == 0
    verdicts = [json.loads(line) for line in Path(report.verdicts_path).read_text("utf-8").splitlines()]
    assert [(row["line"], row["verdict"]) for row in verdicts] == [(201, "rejected")]
    assert {row.number for row in report.listing} == set(range(203))


def test_each_check_is_one_sentence_and_says_what_is_wrong(staying: StayingJob) -> None:
    checks = {check.name: check for check in staying.report().checks}
    wrong = {name for name, check in checks.items() if not check.passed}
    ends = {"nothing_cut", "end_of_turn_trained"}  # an end that is cut off is not learned
    assert wrong == {*ends, "rows_read", "no_control_tokens_in_text", "no_duplicates"}
    assert {checks[name].title for name in wrong} == {
        "Answers are cut off",
        "Some answers end without a trained end-of-turn token",
        "Some rows were not read",
        "Some prompts hold control tokens",
        "Some rows come twice",
    }
    assert "1 of 203 rows were rejected" in checks["rows_read"].message
    assert "A max length of" in checks["nothing_cut"].message
    assert all(check.level != "error" for check in checks.values())
    assert {"end_of_turn_trained", "single_bos", "padding_not_trained", "template_present", "same_prompt"} <= set(
        checks
    )


def test_the_rows_asked_for_come_token_by_token(staying: StayingJob) -> None:
    row, rejected = staying.rows(0).rows
    assert row.text == "".join(piece.string for piece in row.tokens)
    trained = "".join(piece.string for piece in row.tokens if piece.trained)
    assert trained == "Answer. <|im_end|>"
    assert {piece.string for piece in row.tokens if piece.special} == {"<|im_start|>", "<|im_end|>"}
    assert (rejected.verdict, rejected.part, rejected.tokens) == ("rejected", "left_out", ())
    assert rejected.raw.startswith('{"messages"')


def test_rows_are_shown_by_words_and_with_other_settings(staying: StayingJob) -> None:
    staying.folder.send(ShowRows(request=1, rows=["longest", "shortest", "random", "first", "rejected", 9999]))
    longest, shortest, _, first, rejected = staying.rows(1).rows
    assert len(longest.tokens) > 64 == longest.kept
    assert not any(piece.trained for piece in longest.tokens if piece.cut)
    assert len(shortest.tokens) < len(longest.tokens)
    assert (first.number, rejected.number) == (0, 200)
    staying.folder.send(ShowRows(request=2, rows=[0], settings={"training.loss_on": "all", "training.max_length": 16}))
    (row,) = staying.rows(2).rows
    assert row.kept == 16
    assert row.trained == 15


def test_settings_that_there_are_not_give_a_warning_and_no_end(staying: StayingJob) -> None:
    staying.folder.send(ShowRows(request=3, rows=[0], settings={"training.max_length": "long"}))
    assert staying.rows(3).rows == ()
    staying.folder.send(ShowRows(request=4, rows=[0]))
    assert len(staying.rows(4).rows) == 1


def test_the_command_lines_json_holds_what_is_promised(staying: StayingJob) -> None:
    checked = check_json(staying.report())
    assert set(checked["rows"]) >= {"total", "ok", "repaired", "rejected"}
    assert set(checked["rejections"][0]) >= {"line", "offset", "reason"}
    assert set(checked["checks"][0]) >= {"name", "passed", "message"}
    assert checked["format"] == "messages" and checked["lengths"]
    shown = preview_json(staying.report(), staying.rows(0))
    assert (shown["supported"], shown["reason"]) == (True, "")
    assert set(shown["rows"][0]["tokens"][0]) >= {"id", "string", "trained", "special", "cut"}
    assert json.dumps(checked) and json.dumps(shown)


def test_it_ends_when_it_is_told_to(staying: StayingJob) -> None:
    staying.report()
    staying.folder.send(Stop())
    assert staying.process.wait(30) == 0
    assert isinstance(list(staying.folder.events())[-1], Finished)


def test_it_ends_with_whoever_started_it(tiny_llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(chat(f"Question {number}?", "Answer.") for number in range(20)), "utf-8")
    config = RunConfig.model_validate({"model": {"source": str(tiny_llama)}, "data": {"path": str(path)}})
    starter = (sys.executable, "-c", _STARTER, str(tmp_path), DataJob(config=config, stay=True).model_dump_json())
    started = subprocess.run(starter, check=True, timeout=120, stdout=subprocess.PIPE, text=True)
    folder = RunFolder(started.stdout.strip())
    deadline = time.monotonic() + 120
    while not isinstance(last := list(folder.events())[-1], Finished):
        assert time.monotonic() < deadline and not isinstance(last, Failed), last
        time.sleep(0.05)


def test_a_dataset_that_a_run_would_refuse_is_reported_with_the_reason(tiny_llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(chat("word " * 300, "Never reached."), "utf-8")
    config = RunConfig.model_validate({"model": {"source": str(tiny_llama)}, "data": {"path": str(path)}})
    config = config.with_value("training.max_length", 64)
    job = StayingJob(create_job_folder(tmp_path, DataJob(config=config)))
    report = job.report()
    assert job.process.wait(30) == 0
    assert "No row of rows.jsonl can be trained" in report.refused
    assert any(check.level == "error" for check in report.checks)
    assert report.lengths is not None and report.lengths.keeps["100"] > 64


def test_without_a_model_rows_are_read_and_nothing_is_said_that_a_model_decides(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(chat("Hello?", "Yes."), "utf-8")
    config = RunConfig.model_validate({"data": {"path": str(path)}})
    job = StayingJob(create_job_folder(tmp_path, DataJob(config=config, rows=["first"], stay=True, tokenize=False)))
    assert job.process.wait(60) == 0
    (report,) = [
        event.report for event in job.folder.events() if isinstance(event, DatasetReported) and event.report.read
    ]
    assert (report.rows.total, report.model, report.checks, report.lengths, report.complete) == (1, "", (), None, False)
    assert not any(isinstance(event, RowsReported) for event in job.folder.events())


def test_a_check_that_failed_has_another_title_than_one_that_passed() -> None:
    alike = {name for name, (good, bad) in TITLES.items() if good == bad}
    assert alike == {"rows_in_a_batch"}  # which cannot fail


def test_a_max_length_that_keeps_a_share_of_the_answers_keeps_it() -> None:
    tally = RowTally()
    trained_to = [10, 20, 30, 400]  # each row is trained from its fifth token to its end
    for number, length in enumerate(trained_to):
        for name, value in zip(tally.columns, (number, number + 1, 0, length, length - 4, length - 4), strict=True):
            tally.columns[name].append(value)
        tally.trained_at[4] += 1
        tally.trained_at[length] -= 1
    tally.part, tally.copies = numpy.zeros(4, dtype=numpy.int8), numpy.ones(4, dtype=numpy.int16)
    found = length_statistics(tally, RunConfig())
    assert found is not None
    assert found.keeps["100"] == 400
    total = sum(length - 4 for length in trained_to)
    for percent in (95, 99):
        limit = found.keeps[str(percent)]
        kept = [sum(max(0, min(length, at) - 4) for length in trained_to) for at in (limit - 1, limit)]
        assert kept[0] < total * percent / 100 <= kept[1]
    for edge, beyond, rows in zip(found.edges, found.trained_beyond, found.rows_beyond, strict=True):
        assert beyond == sum(max(0, length - max(edge, 4)) for length in trained_to)
        assert rows == sum(length > edge for length in trained_to)
    assert (found.packs, found.packed_padding_share) == (1, 0)  # 460 tokens, and nothing to pad them to
    assert 0 < found.padding_share < 1
