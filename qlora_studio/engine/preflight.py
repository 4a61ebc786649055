"""What can be known to be wrong before the libraries are loaded: told within a second, not after ten."""

from pathlib import Path

from qlora_studio.core.errors import InvalidRunConfig, StudioError
from qlora_studio.core.run.job import Job, TrainJob
from qlora_studio.core.run.run_config_text import problems_before_start
from qlora_studio.storage.models.folder import folder_tensors, read_config
from qlora_studio.storage.models.location import locate_model
from qlora_studio.storage.runs.run_folder import RunFolder


def preflight(job: Job, folder: RunFolder) -> None:
    """Raise StudioError where a training job cannot succeed: a setting, the model's place, the dataset's place."""
    if not isinstance(job, TrainJob):
        return
    config = folder.config()
    if problems := problems_before_start(config):
        raise InvalidRunConfig(problems)
    location = locate_model(config.model.source, config.model.revision)
    if location.kind != "gguf" and location.path is not None:
        read_config(location.path)
        folder_tensors(location.path)  # the headers alone: a download that broke off is refused at once
    for path in filter(None, (*(source.path for source in config.data.sources), config.data.evaluation_path)):
        if Path(path).is_absolute() and not Path(path).exists():
            raise StudioError(
                f"There is no dataset at {path}.",
                kind="data_not_found",
                advice="It may have been moved or renamed: choose it again.",
            )
