"""Where jobs do their work: those of a run inside its folder, all others in the cache, where old ones are removed."""

import shutil
import time

from qlora_studio.core.run.job import Job
from qlora_studio.storage.runs.run_folder import RunFolder, create_job_folder
from qlora_studio.storage.settings import cache_path

_KEPT_SECONDS = 7 * 24 * 3600


def new_job_folder(job: Job, run: RunFolder | None = None) -> RunFolder:
    """Create the folder of a job, with its `job.json`. Raises StudioError where that cannot be."""
    if run is not None:
        return create_job_folder(run.jobs_path, job)
    remove_old_jobs()
    return create_job_folder(cache_path() / "jobs", job)


def remove_old_jobs(now: float | None = None) -> int:
    """Remove jobs without a run that ended more than a week ago; return how many."""
    removed = 0
    folder = cache_path() / "jobs"
    for path in folder.iterdir() if folder.is_dir() else ():
        age = (now or time.time()) - path.stat().st_mtime
        if age > _KEPT_SECONDS and not path.is_symlink() and not RunFolder(path).is_busy():
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed
