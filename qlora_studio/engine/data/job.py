"""The data job: read, check, render and tokenize a dataset, report it, and show rows until it is told to stop.

What was read is reported before anything heavy is imported.
"""

import time

from qlora_studio.core.config.run_config import DatasetSource, RunConfig
from qlora_studio.core.data.report import DataReport, SourceReport, SourcesReport
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.commands import ShowRows
from qlora_studio.core.run.events import Finished
from qlora_studio.core.run.job import DataJob
from qlora_studio.core.run.reports import DataFacts, DatasetReported, SourcesReported
from qlora_studio.engine.context import Commands, JobContext
from qlora_studio.engine.data.first_rows import FirstRows
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
    if not config.model.source and job.tokenize:
        config = config.with_value("model.source", _TOKENIZER)
    context.end_with_starter()
    opened = _open(config, context)
    context.phase(Activity.READING_DATA)
    first = FirstRows(config, opened.training.names, context)

    def tell(done: int, total: int) -> None:
        context.progress("rows", done, total, "bytes")
        first.tell()

    surveys = opened.training.surveys(progress=tell, cancelled=lambda: _cancelled(context), seen=first.see)
    report = read_report(surveys, opened, config, time.monotonic() - started, first=first.rows)
    context.emit(DatasetReported(report=report))
    if not job.tokenize:
        return Finished(facts=DataFacts(refused=""))
    return _tokenized(job, config, opened, report, context, waiting)


def _open(config: RunConfig, context: JobContext) -> OpenedData:
    """Open the datasets, and tell of them before they are read: also of one that leaves a choice to the user."""
    try:
        opened = open_data(config.data, context.folder, context)
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
    from qlora_studio.engine.data.checks import checks_of
    from qlora_studio.engine.data.plan import DataPlan, rendering_day
    from qlora_studio.engine.data.prepared import prepared
    from qlora_studio.engine.data.preview import ShownRows
    from qlora_studio.engine.data.report import full_report, length_statistics, padding_reason
    from qlora_studio.engine.model.base import load_tokenizer

    tokenizer = load_tokenizer(config.model.source, config.model.revision, context)
    context.phase(Activity.PREPARING_DATA)
    data = prepared(DataPlan.of(config, opened, tokenizer, rendering_day(context.folder)), config, context)
    lengths = length_statistics(data.tally, config, padding_reason(tokenizer))
    with ShownRows(config, data, context) as rows:
        for complete in (False, True):
            checks = checks_of(data, config, lengths, with_trainer=complete)
            seconds = read.seconds + time.monotonic() - started
            report = full_report(read, data, config, lengths, checks, seconds, complete=complete)
            context.emit(DatasetReported(report=report))
            context.raise_if_stopped()
            while _look(context, waiting):
                rows.show(waiting.pop(0))
                context.raise_if_stopped()
        context.phase(Activity.READY)
        while job.stay and not context.stop_requested():
            if _look(context, waiting):
                rows.show(waiting.pop(0))
            else:
                time.sleep(_POLL_SECONDS)
    return Finished(facts=DataFacts(refused=report.refused))


def _look(context: JobContext, waiting: list[ShowRows]) -> bool:
    """Keep the rows asked for; return whether there are any."""
    waiting += [command for command in context.commands() if isinstance(command, ShowRows)]
    return bool(waiting)


def _cancelled(commands: Commands) -> bool:
    """Raise JobStopped where the job is to stop; else return False."""
    commands.raise_if_stopped()
    return False
