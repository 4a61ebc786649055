"""A dataset of the hub: its data files, fetched into the hub's own cache and read from there by our own reader.

Nothing of a dataset is ever run: scripts and pickles are not even fetched. Where a repository has nothing that can be
read, the hub's own Parquet conversion of it is taken. What is in the cache needs no network.
"""

import glob
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from qlora_studio.core.config.run_config import DatasetSource
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.words import say
from qlora_studio.engine.context import Channel
from qlora_studio.engine.model.download_progress import progress_bar
from qlora_studio.storage.datasets.files import LocatedDataset, data_names, located
from qlora_studio.storage.datasets.layout import (
    Layout,
    chosen,
    converted_layout,
    declared_configs,
    layout_of,
)
from qlora_studio.storage.network import require_network
from qlora_studio.storage.permissions import as_the_user
from qlora_studio.storage.syncing import sync_fetched

_CONVERTED = "refs/convert/parquet"
_README = "README.md"
_HTTP_ERROR: Any = HfHubHTTPError.__bases__[0]  # of whichever HTTP library the hub's client is made with


def fetch(name: str, source: DatasetSource, channel: Channel, *, commit: str = "") -> LocatedDataset:
    """Return the files of a dataset on the hub, fetched where they are not here yet.

    A `commit` overrules the revision. Raises StudioError in words, and DatasetChoice where there are several subsets or
    splits and `source` names none.
    """
    return _Fetching(name, commit or source.revision, channel).run(source)


class _Fetching:
    def __init__(self, name: str, revision: str, channel: Channel) -> None:
        self._name, self._revision, self._channel = name, revision, channel

    def run(self, source: DatasetSource) -> LocatedDataset:
        self._channel.phase(Activity.ASKING_THE_HUB)
        folder, names = self._look(self._revision)
        kinds = data_names(names)
        layout = layout_of(kinds, declared_configs(folder / _README), kinds) if kinds else {}
        revision = folder.name
        if not layout:
            layout, revision = self._converted(names)
        subset, split = chosen(layout, source)
        self._channel.phase(Activity.DOWNLOADING)
        place = self._download(revision, layout[subset][split])
        found = located(place, layout, source.model_copy(update={"subset": subset, "split": split}), self._name)
        return replace(found, commit=folder.name)

    def _look(self, revision: str) -> tuple[Path, list[str]]:
        """Return the snapshot of a revision, with the README in it, and the names of all files that there are."""
        folder = self._download(revision, [_README])
        try:
            tree = get_cached_repo_tree(self._name, repo_type="dataset", revision=folder.name)
        except CachedRepoTreeNotFoundError as error:
            raise self._refused(
                say("is in the cache, but not its list of files"), say("Connect once, and try again.")
            ) from error
        return folder, [file.path for file in tree]

    def _converted(self, names: Sequence[str]) -> tuple[Layout, str]:
        """Return layout and commit of the hub's own Parquet conversion. Raises StudioError where there is none."""
        kinds = sorted({PurePosixPath(name).suffix for name in names} - {"", ".md", ".gitattributes"})
        there = f" It holds {', '.join(kinds[:8])} files." if kinds else ""
        try:
            folder, converted = self._look(_CONVERTED)
        except StudioError as error:
            raise self._refused(
                say(
                    "has no data files that can be read, nor a Parquet conversion by the hub.{there}", there=there
                ).rstrip("."),
                say("JSON Lines, JSON, CSV, TSV, Parquet and plain text can be read; scripts are never run."),
                error.detail or error.message,
            ) from error
        layout = converted_layout(name for name in converted if name.endswith(".parquet"))
        if not layout:
            raise self._refused(
                say("has no data files that can be read.{there}", there=there).rstrip("."),
                say("Scripts and pickles are never run."),
            )
        return layout, folder.name

    def _download(self, revision: str, names: Sequence[str]) -> Path:
        """Fetch files of a revision; return the folder of the snapshot. Raises StudioError in words."""
        try:
            with as_the_user():
                folder = snapshot_download(
                    self._name,
                    repo_type="dataset",
                    revision=revision or None,
                    allow_patterns=[glob.escape(name) for name in names],
                    tqdm_class=progress_bar(self._channel),
                )
        except GatedRepoError as error:
            raise self._refused(
                say("asks you to accept its terms first"),
                say("Open https://huggingface.co/datasets/{name}, accept, then run `hf auth login`.", name=self._name),
            ) from error
        except RepositoryNotFoundError as error:
            raise self._refused(
                say("is not on the hub, or is private"),
                say("Check the spelling: it is owner/name. For a private one run `hf auth login`."),
            ) from error
        except RevisionNotFoundError as error:
            raise self._refused(
                say("has no revision {revision}", revision=repr(revision)),
                say("Leave the revision empty for the newest."),
            ) from error
        except HFValidationError as error:
            raise self._refused(
                say("is no name that the hub could have"), say("It is owner/name."), str(error)
            ) from error
        except (_HTTP_ERROR, LocalEntryNotFoundError, OSError) as error:
            name = self._name
            require_network(say("The dataset {name} is not whole here, and the network is switched off.", name=name))
            raise self._refused(
                say("could not be fetched, and is not whole in the cache"),
                say("Check the connection and the disk, then try again: files that came whole are not fetched again."),
                str(error),
            ) from error
        sync_fetched(Path(folder))
        return Path(folder)

    def _refused(self, what: str, advice: str, detail: str = "") -> StudioError:
        return StudioError(
            say("The dataset {name} {what}.", name=self._name, what=what),
            kind=FailureKind.DATA_NOT_FOUND,
            advice=advice,
            detail=detail,
        )
