"""The data job: read, check, render and tokenize a dataset, report it, and show rows until it is told to stop.

What was read is reported before anything heavy is imported.
"""

import time

from qlora_studio.core.commands import ShowRows
from qlora_studio.core.data_report import DataReport, Rejection, RowCounts, RowSummary
from qlora_studio.core.events import Finished, Reported
from qlora_studio.core.job import DataJob
from qlora_studio.core.run_config import RunConfig
from qlora_studio.engine.context import JobContext, JobStopped
from qlora_studio.storage.dataset_reader import DatasetReader, open_dataset
from qlora_studio.storage.dataset_survey import DatasetSurvey

_POLL_SECONDS = 0.05
_KEPT_REJECTIONS = 200
_TOKENIZER = "starter"  # where no model is chosen


def run(job: DataJob, context: JobContext) -> Finished:
    """Report the dataset of a config; show the rows asked for; with `stay`, go on showing rows until Stop."""
    waiting = [ShowRows(request=0, rows=job.rows)] if job.rows else []
    started = time.monotonic()
    config = job.config
    if not config.model.source:
        config = config.with_value("model.source", _TOKENIZER)
    reader = open_dataset(config.data)
    context.phase("reading_data")
    survey = reader.survey(
        progress=lambda done, total: context.progress("rows", done, total, "bytes"),
        cancelled=lambda: _look_on(context, waiting),
    )
    report = read_report(survey, config, time.monotonic() - started)
    context.emit(Reported(kind="dataset", report=report.model_dump()))
    return _tokenized(job, config, reader, report, context, waiting)


def read_report(survey: DatasetSurvey, config: RunConfig, seconds: float) -> DataReport:
    """Return what is known when the rows are read."""
    first = survey.first_rejections[:_KEPT_REJECTIONS]
    return DataReport(
        path=survey.path,
        model=config.model.source,
        format=survey.format,
        evidence=survey.evidence,
        columns=tuple(survey.columns),
        encoding=survey.encoding,
        size_bytes=survey.size_bytes,
        rows=RowCounts(
            total=survey.total,
            ok=survey.ok,
            repaired=survey.repaired,
            rejected=survey.rejected,
            duplicates=survey.exact_duplicates,
            near_duplicates=survey.near_duplicates,
        ),
        rejections=tuple(
            Rejection(number=row.row, line=row.line, offset=row.offset, reason=row.reason) for row in first
        ),
        listing=tuple(
            RowSummary(number=row.row, line=row.line, verdict="rejected", reason=row.reason, words=row.raw[:120])
            for row in first
        ),
        complete=False,
        seconds=seconds,
    )


def _tokenized(
    job: DataJob,
    config: RunConfig,
    reader: DatasetReader,
    read: DataReport,
    context: JobContext,
    waiting: list[ShowRows],
) -> Finished:
    context.phase("loading_libraries")
    started = time.monotonic()
    from qlora_studio.engine.base_model import load_tokenizer
    from qlora_studio.engine.dataset_report import full_report
    from qlora_studio.engine.prepared_data import prepare
    from qlora_studio.engine.shown_rows import ShownRows

    tokenizer = load_tokenizer(config.model.source, config.model.revision, context)
    context.phase("preparing_data")
    data = prepare(config, tokenizer, context, lambda: _look_on(context, waiting), reader)
    with ShownRows(config, tokenizer, data, reader, context) as rows:
        for complete in (False, True):
            seconds = read.seconds + time.monotonic() - started
            report = full_report(read, data, config, tokenizer, seconds, complete=complete)
            context.emit(Reported(kind="dataset", report=report.model_dump()))
            while not _look_on(context, waiting) and waiting:
                rows.show(waiting.pop(0))
        context.phase("ready")
        while job.stay and not _look(context, waiting):
            if waiting:
                rows.show(waiting.pop(0))
            else:
                time.sleep(_POLL_SECONDS)
    return Finished(facts={"refused": report.refused})


def _look(context: JobContext, waiting: list[ShowRows]) -> bool:
    """Keep the rows asked for; return whether the job is to stop."""
    waiting += [command for command in context.commands() if isinstance(command, ShowRows)]
    return context.stop_requested() or context.is_orphaned()


def _look_on(context: JobContext, waiting: list[ShowRows]) -> bool:
    """Look, and raise JobStopped where the job is to stop; else return False."""
    if _look(context, waiting):
        raise JobStopped
    return False
