"""A report that is told again: while nothing that decides it is another, and the rows that it speaks of are there."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import DataReport
from qlora_studio.jobs.known_report import keep_report, known_report, report_place, reports_path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "One?", "completion": "Two."}\n')
    return path


@pytest.fixture
def model(tiny_llama: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    return copytree(tiny_llama, folder)


@pytest.fixture
def config(rows: Path, model: Path) -> RunConfig:
    return RunConfig().with_value("data.path", str(rows)).with_value("model.source", str(model))


@pytest.fixture
def report(studio_home: Path) -> DataReport:
    verdicts = studio_home / "cache" / "datasets" / "abcd" / "verdicts.jsonl"
    verdicts.parent.mkdir(parents=True)
    verdicts.touch()
    return DataReport(path="rows.jsonl", seconds=1.5, verdicts_path=str(verdicts))


def test_a_report_that_was_kept_is_the_one_that_is_told(config: RunConfig, report: DataReport) -> None:
    place = report_place(config)
    assert place is not None and known_report(place) is None
    keep_report(place, report, config)
    assert known_report(report_place(config)) == report


def _another_row(rows: Path, model: Path) -> None:
    rows.write_text('{"prompt": "One?", "completion": "Six."}\n')


def _another_tokenizer(rows: Path, model: Path) -> None:
    path = model / "tokenizer.json"
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")


def _another_template(rows: Path, model: Path) -> None:
    (model / "chat_template.jinja").write_text("{{ messages }}")


@pytest.mark.parametrize("change", [_another_row, _another_tokenizer, _another_template])
def test_other_content_is_another_report_and_what_changed_meanwhile_is_not_kept(
    change: Callable[[Path, Path], None], rows: Path, model: Path, config: RunConfig, report: DataReport
) -> None:
    before = report_place(config)
    change(rows, model)
    assert report_place(config) != before
    keep_report(before, report, config)
    assert known_report(before) is None


def test_other_settings_are_another_report(config: RunConfig) -> None:
    places = {report_place(config.with_value(*change)) for change in (("data.seed", 7), ("training.max_length", 77))}
    assert len({report_place(config), *places}) == 3


def test_a_template_that_writes_the_day_has_a_report_for_each_day(
    config: RunConfig, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(day: str) -> Path | None:
        monkeypatch.setattr("qlora_studio.jobs.known_report.date", type("Day", (), {"today": lambda: _Day(day)}))
        return report_place(config)

    assert on("2026-01-01") == on("2026-01-02")
    (model / "chat_template.jinja").write_text("{{ strftime_now('%d') }}")
    assert on("2026-01-01") != on("2026-01-02")


class _Day(str):
    def isoformat(self) -> str:
        return str(self)


@pytest.mark.parametrize("path", ["owner/name", "gone.jsonl", ""])
def test_what_cannot_be_known_from_here_is_left_to_the_worker(config: RunConfig, path: str) -> None:
    assert report_place(config.with_value("data.path", path)) is None


def test_a_report_whose_rows_are_gone_or_that_is_damaged_is_not_told(config: RunConfig, report: DataReport) -> None:
    place = report_place(config)
    assert place is not None
    keep_report(place, report, config)
    Path(report.verdicts_path).unlink()
    assert known_report(place) is None
    for text in ("{", "[]", json.dumps({"path": 3}), json.dumps({"path": "rows", "complete": False})):
        place.write_text(text)
        assert known_report(place) is None


def test_a_report_that_speaks_of_a_file_elsewhere_is_not_told(
    config: RunConfig, report: DataReport, rows: Path
) -> None:
    place = report_place(config)
    keep_report(place, report.model_copy(update={"verdicts_path": str(rows)}), config)
    assert known_report(place) is None


def test_only_the_last_reports_are_kept(config: RunConfig, report: DataReport) -> None:
    for seed in range(22):
        changed = config.with_value("data.seed", seed)
        keep_report(report_place(changed), report, changed)
    assert len(list(reports_path().iterdir())) == 20
