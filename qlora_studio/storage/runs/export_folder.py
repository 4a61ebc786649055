"""Exports on disk: a folder is there whole, with every byte synced and hashed, or it is not there.

Each is a staged folder (see `storage.durable`) whose files other users may read. Nothing that exists is replaced, and
no link followed. What a killed export left behind goes at the program's next start (see `leftovers`).
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qlora_studio.core.bounds import Amount, Count
from qlora_studio.core.errors import FULL_DISK, FailureKind, StudioError
from qlora_studio.core.run.fingerprint import Fingerprint
from qlora_studio.core.run.reports import VerificationReport
from qlora_studio.core.words import say
from qlora_studio.storage.durable import (
    DamagedManifest,
    Manifest,
    StagedFolder,
    disagreements,
    read_manifest,
    staged_folder,
)
from qlora_studio.storage.foreign import read_parsed
from qlora_studio.storage.permissions import as_the_user, give, umask
from qlora_studio.storage.runs.leftovers import remember_export_place
from qlora_studio.storage.syncing import make_folders

# Written beside a finished export later, by the verification; the manifest knows nothing of them.
VERIFICATION_FILES = ("verification.json", "verification.md")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class ExportManifest(Manifest):
    """The facts of an export. A merge without a run has a format and how many tensors were merged.

    `base` and `run` are names, `file` is that of a GGUF, `template` whether Ollama will write conversations as trained.
    Those after it are as in `ExportedFacts`.
    """

    format: str = ""
    base: str = ""
    base_weights: str = "original"
    checkpoint: str = "final"
    run: str = ""
    base_fingerprint: Fingerprint = Fingerprint()
    tensors_merged: Count = 0
    tensors: Count = 0
    file: str = ""
    template: bool = False
    importance_rows: str = ""
    importance_tokens: Amount = 0
    importance_tensors: Count = 0
    vllm_applied: Count = 0
    vllm_modules: Count = 0
    vllm_problem: str = ""


@contextmanager
def staged_export(final: Path) -> Iterator[StagedFolder]:
    """Yield a staging folder that becomes `final` when the block ends well, and vanishes else. Raises StudioError."""
    require_free_place(final)
    remember_export_place(final.parent)
    try:
        with as_the_user():
            make_folders(final.parent)
        with staged_folder(final) as staged:
            give(staged.path, 0o777 & ~umask())
            yield staged
    except FileExistsError as error:
        raise _taken(final) from error
    except OSError as error:
        raise _in_words(final, error) from error


def safe_name(name: str) -> str:
    """Return `name` where it can be the name of an export or of a file in one. Raises StudioError."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise StudioError(
            say('"{name}" cannot be the name of an export.', name=name),
            kind=FailureKind.NOT_WRITABLE,
            advice=say("Use letters, digits, dots, dashes and underscores, beginning with a letter or digit."),
        )
    return name


def require_free_place(final: Path) -> None:
    """Raise StudioError where `final` has a name that is refused, or anything, even a dangling link, stands there."""
    safe_name(final.name)
    if os.path.lexists(final):
        raise _taken(final)


def read_export(folder: Path) -> ExportManifest:
    """Return the manifest of an export. Raises StudioError where there is none that can be read."""
    try:
        return read_manifest(folder, ExportManifest)
    except DamagedManifest as error:
        raise StudioError(
            say("{folder} is not a finished export: it has no readable manifest.json.", folder=folder),
            kind=FailureKind.DAMAGED,
            advice=say("Export again."),
        ) from error


def exports_of(folder: Path) -> list[tuple[Path, ExportManifest]]:
    """Return the finished exports in a folder with their manifests, newest first."""
    found = []
    for path in folder.glob("[!.]*") if folder.is_dir() else ():
        with suppress(StudioError):
            found.append((path, read_export(path)))
    return sorted(found, key=lambda item: -item[0].stat().st_mtime)


def damages(folder: Path) -> list[str]:
    """Return what disagrees with the manifest, in words; empty where every byte is as it was written."""
    return list(disagreements(folder, read_export(folder)))


def verification_of(folder: Path) -> VerificationReport:
    """Return the report of an export's verification; one without checks where there is none that can be read."""
    try:
        return read_parsed(folder / VERIFICATION_FILES[0], VerificationReport.model_validate_json, inside=folder)
    except (OSError, StudioError):
        return VerificationReport()


def _taken(final: Path) -> StudioError:
    return StudioError(
        say("{final} exists already.", final=final),
        kind=FailureKind.NOT_WRITABLE,
        advice=say("Choose another name, or remove the old one first."),
    )


def _in_words(final: Path, error: OSError) -> StudioError:
    if error.errno in FULL_DISK or "No space left" in str(error):
        return StudioError(
            say("The disk became full while {name} was written.", name=final.name),
            kind=FailureKind.DISK_FULL,
            advice=say("Free some space and export again. Nothing half-made was left."),
            detail=str(error),
        )
    return StudioError(
        say("Cannot write {final}: {strerror}.", final=final, strerror=error.strerror or error),
        kind=FailureKind.NOT_WRITABLE,
        advice=say("Choose another folder, or give yourself permission to write there."),
        detail=str(error),
    )
