"""The data job: read, check, render and tokenize a dataset, report it, and show rows until it is told to stop.

What was read is reported before anything heavy is imported.
"""

import time

from qlora_studio.core.data.report import DataReport, SourceReport, SourcesReport
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.commands import ShowRows
from qlora_studio.core.run.events import Finished
from qlora_studio.core.run.job import DataJob
from qlora_studio.core.run.reports import DataFacts, DatasetReported, SourcesReported
from qlora_studio.core.run.run_config import DatasetSource, RunConfig
from qlora_studio.engine.context import JobContext, JobStopped
from qlora_studio.engine.data.opened import OpenedData, open_data
from qlora_studio.engine.data.read_report import read_report, source_reports
from qlora_studio.storage.datasets.layout import DatasetChoice

_POLL_SECONDS = 0.05
_TOKENIZER = "starter"  # where no model is chosen


def run(job: DataJob, context: JobContext) -> Finished:
    """Report the dataset of a config; show the rows asked for; with `stay`, go on showing rows until Stop."""
    waiting = [ShowRows(request=0, rows=job.rows)] if job.rows else []
    started = time.monotonic()
    config = job.config
    if not config.model.source:
        config = config.with_value("model.source", _TOKENIZER)
    opened = _open(config, context, waiting)
    context.phase(Activity.READING_DATA)
    surveys = opened.training.surveys(
        progress=lambda done, total: context.progress("rows", done, total, "bytes"),
        cancelled=lambda: _look_on(context, waiting),
    )
    report = read_report(surveys, opened, config, time.monotonic() - started)
    context.emit(DatasetReported(report=report))
    return _tokenized(job, config, opened, report, context, waiting)


def _open(config: RunConfig, context: JobContext, waiting: list[ShowRows]) -> OpenedData:
    """Open the datasets, and tell of them before they are read: also of one that leaves a choice to the user."""
    try:
        opened = open_data(config.data, context, lambda: _look_on(context, waiting))
    except DatasetChoice as choice:
        reports = [_undecided(source, choice) for source in config.data.sources]
        context.emit(SourcesReported(report=SourcesReport(sources=tuple(reports))))
        raise
    reports = list(source_reports(opened.training))
    context.emit(SourcesReported(report=SourcesReport(sources=tuple(reports))))
    return opened


def _undecided(source: DatasetSource, choice: DatasetChoice) -> SourceReport:
    subsets = choice.subsets if source.path == choice.path else {}
    return SourceReport(name=source.name, path=source.path, subset=source.subset, split=source.split, subsets=subsets)


def _tokenized(
    job: DataJob,
    config: RunConfig,
    opened: OpenedData,
    read: DataReport,
    context: JobContext,
    waiting: list[ShowRows],
) -> Finished:
    context.phase(Activity.LOADING_LIBRARIES)
    started = time.monotonic()
    from qlora_studio.engine.data.prepared import prepare
    from qlora_studio.engine.data.preview import ShownRows
    from qlora_studio.engine.data.report import full_report
    from qlora_studio.engine.model.base import load_tokenizer

    tokenizer = load_tokenizer(config.model.source, config.model.revision, context)
    context.phase(Activity.PREPARING_DATA)
    data = prepare(config, tokenizer, context, lambda: _look_on(context, waiting), opened)
    with ShownRows(config, tokenizer, data, opened.training, context) as rows:
        for complete in (False, True):
            seconds = read.seconds + time.monotonic() - started
            report = full_report(read, data, config, tokenizer, seconds, complete=complete)
            context.emit(DatasetReported(report=report))
            while not _look_on(context, waiting) and waiting:
                rows.show(waiting.pop(0))
        context.phase(Activity.READY)
        while job.stay and not _look(context, waiting):
            if waiting:
                rows.show(waiting.pop(0))
            else:
                time.sleep(_POLL_SECONDS)
    return Finished(facts=DataFacts(refused=report.refused))


def _look(context: JobContext, waiting: list[ShowRows]) -> bool:
    """Keep the rows asked for; return whether the job is to stop."""
    waiting += [command for command in context.commands() if isinstance(command, ShowRows)]
    return context.stop_requested() or context.is_orphaned()


def _look_on(context: JobContext, waiting: list[ShowRows]) -> bool:
    """Look, and raise JobStopped where the job is to stop; else return False."""
    if _look(context, waiting):
        raise JobStopped
    return False
