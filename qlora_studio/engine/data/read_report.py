"""The report of datasets that are read and not yet tokenized."""

from collections import Counter
from collections.abc import Iterator, Sequence

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.data.report import DataReport, Rejection, RowCounts, RowSummary, SourceReport
from qlora_studio.engine.data.opened import OpenedData
from qlora_studio.storage.datasets.mixture import DatasetMixture
from qlora_studio.storage.datasets.survey import DatasetSurvey

_KEPT_REJECTIONS = 200
_READING = 240  # characters of a preview


def source_reports(data: DatasetMixture) -> Iterator[SourceReport]:
    """Yield what is known of each dataset before it is read."""
    for name, reader in zip(data.names, data.readers, strict=True):
        found = reader.found
        yield SourceReport(
            name=name,
            path=reader.source.path,
            subset=found.subset,
            split=found.split,
            commit=found.commit,
            weight=reader.source.weight,
            encoding=reader.source.encoding,
            files=len(reader.files),
            size_bytes=reader.total_bytes,
            subsets=dict(found.subsets),
            readings={encoding: text[:_READING] for encoding, text in reader.encoding_readings().items()},
        )


def read_report(
    surveys: Sequence[DatasetSurvey],
    opened: OpenedData,
    config: RunConfig,
    seconds: float,
    *,
    first: Sequence[RowSummary] = (),
) -> DataReport:
    """Return what is known when the rows are read; the `first` of them are listed with those that were rejected."""
    reports = source_reports(opened.training)
    sources = [_surveyed(report, survey) for report, survey in zip(reports, surveys, strict=True)]
    rejections = _rejections(surveys, opened.training.names)
    formats = {survey.format for survey in surveys}
    evidence = sum((Counter(survey.evidence) for survey in surveys), Counter[str]())
    return DataReport(
        path=config.data.path,
        model=config.model.source,
        format=formats.pop() if len(formats) == 1 else surveys[0].format,
        evidence=dict(evidence.most_common()),
        columns=tuple(surveys[0].columns),
        encoding=surveys[0].encoding,
        size_bytes=sum(survey.size_bytes for survey in surveys),
        rows=RowCounts(
            total=sum(survey.total for survey in surveys),
            ok=sum(survey.ok for survey in surveys),
            repaired=sum(survey.repaired for survey in surveys),
            rejected=sum(survey.rejected for survey in surveys),
            duplicates=sum(survey.exact_duplicates for survey in surveys),
            near_duplicates=sum(survey.near_duplicates for survey in surveys),
        ),
        rejections=tuple(rejection for rejection, _ in rejections),
        listing=_listing(first, rejections),
        sources=tuple(sources),
        complete=False,
        seconds=seconds,
    )


def _listing(first: Sequence[RowSummary], rejections: Sequence[tuple[Rejection, str]]) -> tuple[RowSummary, ...]:
    """Return rows by their number; a row that was taken for good may be rejected once the dataset's format is known."""
    rows = {row.number: row for row in first}
    for row, words in rejections:
        rows[row.number] = RowSummary(
            number=row.number, line=row.line, verdict="rejected", reason=row.reason, words=words, dataset=row.dataset
        )
    return tuple(rows[number] for number in sorted(rows))


def _surveyed(report: SourceReport, survey: DatasetSurvey) -> SourceReport:
    changes = {
        "ok": survey.ok,
        "repaired": survey.repaired,
        "rejected": survey.rejected,
        "format": survey.format,
        "forced": survey.forced,
        "mixed": survey.mixed,
        "evidence": survey.evidence,
        "columns": tuple(survey.columns),
        "unused": tuple(name for name in survey.columns if name in survey.unread),
        "unread": survey.unread,
        "proposed": survey.proposed,
        "container": survey.container,
        "reasons": survey.reasons,
        "repairs": survey.repairs,
    }
    return report.model_copy(update=changes)


def _rejections(surveys: Sequence[DatasetSurvey], names: Sequence[str]) -> list[tuple[Rejection, str]]:
    """Return the first rejected rows of all datasets, numbered through, each with its first words."""
    found, before = [], 0
    for survey, name in zip(surveys, names, strict=True):
        for row in survey.first_rejections[:_KEPT_REJECTIONS]:
            place = {"line": row.line, "offset": row.offset, "dataset": name, "file": row.file}
            found.append((Rejection(number=before + row.row, reason=row.reason, **place), row.raw[:120]))
        before += survey.total
    return found[:_KEPT_REJECTIONS]
