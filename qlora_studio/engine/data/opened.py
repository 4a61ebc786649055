"""The datasets of a run, opened: files here as they lie, datasets of the hub fetched into the hub's own cache."""

from dataclasses import dataclass

from qlora_studio.core.config.run_config import DataSection, DatasetSource
from qlora_studio.core.data.source_facts import EvaluationFacts, SourceFacts
from qlora_studio.core.run.events import DatasetPrepared
from qlora_studio.engine.context import Channel
from qlora_studio.storage.datasets.files import LocatedDataset, hub_name
from qlora_studio.storage.datasets.mixture import DatasetMixture
from qlora_studio.storage.datasets.reader import DatasetReader, open_dataset
from qlora_studio.storage.runs.run_folder import RunFolder


@dataclass(frozen=True)
class OpenedData:
    """What is learned from, and what is held out where that is a dataset of its own."""

    training: DatasetMixture
    evaluation: DatasetMixture | None = None

    def for_template(self, keys: frozenset[str]) -> "OpenedData":
        """Return the data, read for a template that reads these keys of a message."""
        own = self.evaluation.for_template(keys) if self.evaluation else None
        return OpenedData(self.training.for_template(keys), own)


def open_data(data: DataSection, run: RunFolder, channel: Channel) -> OpenedData:
    """Open everything. Raises StudioError, or DatasetChoice where the user has to say which subset or split.

    A resumed run takes the hub's datasets as they were when it began.
    """
    training = DatasetMixture([open_source(source, run, channel) for source in data.sources])
    own = data.evaluation
    return OpenedData(training, DatasetMixture([open_source(own, run, channel)]) if own else None)


def open_source(source: DatasetSource, run: RunFolder, channel: Channel) -> DatasetReader:
    """Open one dataset."""
    return open_dataset(source, found=_fetched(source, run, channel))


def _fetched(source: DatasetSource, run: RunFolder, channel: Channel) -> LocatedDataset | None:
    name = hub_name(source.path)
    if not name:
        return None
    from qlora_studio.engine.data.hub_dataset import fetch  # takes half a second, and only the hub needs it

    return fetch(name, source, channel, commit=_commit_of_this_run(source, run))


def _commit_of_this_run(source: DatasetSource, run: RunFolder) -> str:
    """Return the commit that this run began with, or nothing."""
    for event in run.events():
        if isinstance(event, DatasetPrepared):
            known: list[SourceFacts | EvaluationFacts] = [*event.sources]
            known += [event.evaluation] if event.evaluation else []
            return next((facts.commit for facts in known if facts.path == source.path), "")
    return ""
