"""The upload job: an export to the hub, because the user asked for it; nothing that is not proved."""

from pathlib import Path

from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.events import Finished
from qlora_studio.core.run.job import UploadJob
from qlora_studio.core.run.reports import UploadReported
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.export.upload import upload
from qlora_studio.storage.runs.upload_files import check_repository, check_upload


def run(job: UploadJob, context: JobContext) -> Finished:
    """Check, upload, and tell where it is."""
    folder, repository = Path(job.path), check_repository(job.repository)
    context.phase(Activity.CHECKING_EXPORT)
    check_upload(folder, repository, force=job.force)
    context.phase(Activity.UPLOADING)
    report = upload(folder, repository, private=job.private, channel=context)
    context.emit(UploadReported(report=report))
    return Finished()
