"""An export as a repository on the hub: with the token of the hub's own store, private unless asked otherwise.

The token is read by the hub's library for its requests, and is in no argument, event, log or file of ours.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.reports import UploadReport
from qlora_studio.core.words import say
from qlora_studio.engine.context import Channel
from qlora_studio.storage.network import require_network
from qlora_studio.storage.runs.upload_files import UploadFile, upload_files


def upload(folder: Path, repository: str, *, private: bool, channel: Channel) -> UploadReport:
    """Send an export's files as one commit; return the repository's address and what was sent.

    Large files go first, one after another, and are not seen by anybody before the commit: a Stop between them leaves
    the repository as it was. Raises StudioError, JobStopped.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api: Any = HfApi(library_name="qlora-studio")
    files = upload_files(folder)
    with _errors_in_words(repository):
        _require_login(api)
        _open_repository(api, repository, private=private)
        additions = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=str(file.path)) for file in files]
        done, total = 0, sum(file.size for file in files)
        for file, addition in sorted(zip(files, additions, strict=True), key=_size):
            channel.raise_if_stopped()
            channel.progress("uploading", done, total, "bytes")
            api.preupload_lfs_files(repository, additions=[addition])
            done += file.size
        channel.raise_if_stopped()
        commit = api.create_commit(repository, operations=additions, commit_message="Upload from QLoRA Studio")
        channel.progress("uploading", total, total, "bytes")
        return UploadReport(
            url=f"{api.endpoint}/{repository}",
            repository=repository,
            commit=commit.oid,
            private=private,
            files=tuple(file.name for file in files),
            bytes=total,
            path=str(folder),
        )


def _size(pair: tuple[UploadFile, Any]) -> int:
    return -pair[0].size


def _require_login(api: Any) -> None:
    from huggingface_hub import get_token

    if get_token() is None:
        raise StudioError(
            say("You are not logged in to the hub."),
            kind=FailureKind.HUB_LOGIN,
            advice=say("Run `hf auth login` in a terminal, once: the token stays in the hub's own store."),
        )


def _open_repository(api: Any, repository: str, *, private: bool) -> None:
    """Make the repository where there is none. One that everybody sees is not taken for a private one."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        found = api.model_info(repository)
    except RepositoryNotFoundError:
        api.create_repo(repository, private=private, exist_ok=True)
        found = api.model_info(repository)
    if private and not found.private:
        raise StudioError(
            say("Everybody can see {repository}, and the upload was to be private.", repository=repository),
            kind=FailureKind.HUB_REFUSED,
            advice=say("Choose another name, or upload it publicly."),
        )


@contextmanager
def _errors_in_words(repository: str) -> Iterator[None]:
    from huggingface_hub import errors
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    broken: type[Exception] = vars(errors)["HTTPError"]  # of the HTTP library, another one in every major version
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise _refused(repository, status, str(error)) from error
    except OfflineModeIsEnabled as error:
        require_network(say("Nothing was uploaded: the network is switched off here."))
        raise _not_reached(say("The hub is switched off here: HF_HUB_OFFLINE is set."), str(error)) from error
    except ValueError as error:  # what is wrong with the model card's head, or with the request
        words = str(error).strip().splitlines()
        raise StudioError(
            say("The hub does not take this: {words}", words=words[0] if words else say("it did not say why")),
            kind=FailureKind.HUB_REFUSED,
            detail=str(error),
        ) from error
    except (broken, OSError, RuntimeError) as error:
        raise _not_reached(say("The hub could not be reached, or broke off."), str(error)) from error


def _refused(repository: str, status: int, detail: str) -> StudioError:
    if status == 401:
        return StudioError(
            say("The hub does not know the stored token."),
            kind=FailureKind.HUB_LOGIN,
            advice=say("Run `hf auth login` again."),
            detail=detail,
        )
    if status in (403, 404):
        return StudioError(
            say("Your token may not write to {repository}.", repository=repository),
            kind=FailureKind.HUB_REFUSED,
            advice=say("Check the owner's name, and that the token has permission to write."),
            detail=detail,
        )
    return StudioError(
        say("The hub refused the upload ({status}).", status=status), kind=FailureKind.HUB_REFUSED, detail=detail
    )


def _not_reached(message: str, detail: str) -> StudioError:
    return StudioError(
        message,
        kind=FailureKind.HUB_REFUSED,
        advice=say("Check the connection, and upload again: files that arrived are not sent twice."),
        detail=detail,
    )
