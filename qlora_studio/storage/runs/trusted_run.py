"""What may be done in a folder: a run that this user trusts, a job that whoever starts it has made, and the question.

The worker is the last gate, and asks here itself: a folder may have been changed since it was submitted.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_toml
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.foreign_text import LARGEST_JSON
from qlora_studio.core.run.job import Job, parse_job
from qlora_studio.core.run.orders import orders_in_words
from qlora_studio.core.words import say
from qlora_studio.storage.foreign import read_bytes
from qlora_studio.storage.runs import trust
from qlora_studio.storage.runs.elsewhere_record import claimed_record, known_record, read_record, record_sent
from qlora_studio.storage.runs.run_folder import RunFolder

JOB_VARIABLE = "QLORA_STUDIO_JOB"  # tells a worker the sha256 of the job.json that its starter wrote itself


class TrustedRun(RunFolder):
    """A run that may give orders. Its config is the one that was recorded, whatever is written there meanwhile."""

    def __init__(self, path: Path | str) -> None:
        """Raises NotTrusted, and StudioError where there is no run or its config is wrong."""
        super().__init__(path)
        if (text := trust.trusted_text(self.path)) is None:
            raise _no_run(self.path)
        self._config = from_toml(text.decode("utf-8", "surrogateescape"))

    def config(self) -> RunConfig:
        """Return the config that is trusted."""
        return self._config

    def write_config(self, config: RunConfig) -> None:
        """Write and record another config, which counts from now on."""
        super().write_config(config)
        self._config = config


class Question:
    """What a run's folder would have done, to be shown before it is trusted. What was shown is what is trusted then."""

    def __init__(self, folder: RunFolder) -> None:
        """Raises StudioError where its run.toml cannot be read, or means nothing."""
        if (text := trust.shown_text(folder.path)) is None:
            raise _no_run(folder.path)
        self._folder, self._text = folder.path, text
        orders = orders_in_words(folder.path, from_toml(text.decode("utf-8", "surrogateescape")))
        self.lines = (*orders, *_claim_in_words(folder.path))

    def accept(self) -> None:
        """Trust what was shown; a run that was sent and renamed here since stays sent. Raises StudioError."""
        if (record := known_record(self._folder)) is not None:
            record_sent(self._folder, record)
        trust.record(self._folder, self._text)


def require_startable(folder: RunFolder) -> None:
    """Raise StudioError where no worker may be started: for a run that is not trusted, a job that was found."""
    if folder.given_job:
        return
    trust.trusted_text(folder.path)
    if folder.job_path.exists():
        raise _not_given(folder)


def accept_sent(folder: RunFolder, sha256: str) -> None:
    """Trust the run that was sent here: its run.toml has the hash that the job script says. Raises StudioError.

    The script came by its user's own login, which may do all that a run could.
    """
    trust.record(folder.path, _sent_text(folder, sha256))


def sent_run_config(folder: RunFolder, sha256: str) -> RunConfig:
    """Return the config of a run that was sent here and is trained along with. Raises StudioError as `accept_sent`."""
    return from_toml(_sent_text(folder, sha256).decode("utf-8", "surrogateescape"))


def given_job(folder: RunFolder, sha256: str) -> Job:
    """Return the job of a folder, whose job.json must have that hash. Raises StudioError, FileNotFoundError.

    Whoever starts a job's worker has made the job, too, in the same session of a command or window, and knows the hash.
    So no folder that is found ever starts an upload, or anything else.
    """
    text = read_bytes(folder.job_path, limit=LARGEST_JSON)
    if hashlib.sha256(text).hexdigest() != sha256:
        raise _not_given(folder)
    return parse_job(text)


def _claim_in_words(run: Path) -> tuple[str, ...]:
    """Return in a line that a folder names a job elsewhere which nobody here submitted; none where it names none."""
    with suppress(StudioError):
        if read_record(run) is None and (claim := claimed_record(run)) is not None and claim.open:
            return (
                say(
                    "It says that job {job} on {place} is at work on it; nothing on this computer knows of that, and "
                    "it would train here.",
                    job=claim.job,
                    place=claim.place,
                ),
            )
    return ()


def _sent_text(folder: RunFolder, sha256: str) -> bytes:
    if (text := trust.shown_text(folder.path)) is None:
        raise _no_run(folder.path)
    if hashlib.sha256(text).hexdigest() != sha256:
        raise trust.NotTrusted(folder.path, f"The run.toml of {folder.path.name} is not the one that was submitted.")
    return text


def _not_given(folder: RunFolder) -> StudioError:
    return StudioError(
        say("The job.json of {path} was not written by what starts it now, so it is not obeyed.", path=folder.path),
        kind=FailureKind.NOT_TRUSTED,
        advice=say("Begin the job again, by its own command or in the window."),
    )


def _no_run(path: Path) -> StudioError:
    return StudioError(
        say("{path} is not a run: it has no run.toml.", path=path),
        kind=FailureKind.RUN_NOT_FOUND,
        advice=say("Name a run's own folder."),
    )
