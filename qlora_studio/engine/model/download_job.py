"""Fetch a model from the hub, because the user asked for it."""

from qlora_studio.core.run.events import Finished
from qlora_studio.core.run.job import DownloadJob
from qlora_studio.core.run.reports import DownloadFacts
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.model.base import download


def run(job: DownloadJob, context: JobContext) -> Finished:
    """Download into the hub's own cache, where every other program finds it too."""
    folder = download(job.source, job.revision, context)
    return Finished(facts=DownloadFacts(path=str(folder), source=job.source))
