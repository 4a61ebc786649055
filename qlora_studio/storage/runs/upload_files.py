"""What of an export would be uploaded, and whether it may be: verified, whole, and silent about this computer."""

import getpass
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.export.disclosure import disclosures
from qlora_studio.core.words import say
from qlora_studio.storage.durable import MANIFEST
from qlora_studio.storage.runs.export_folder import VERIFICATION_FILES, damages, read_export, verification_of

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_TEXTS = (".md", ".json", ".toml", ".svg")
# Texts of the model itself: any word, and any path, may be a token of theirs.
_OF_THE_MODEL = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")
_LARGEST_TEXT = 4 << 20  # bytes


@dataclass(frozen=True)
class UploadFile:
    """A file by its name in the repository. `size` in bytes."""

    name: str
    path: Path
    size: int


def upload_files(folder: Path) -> tuple[UploadFile, ...]:
    """Return what an upload sends: what the manifest lists, the manifest, and the verification. Raises StudioError."""
    names = [*sorted(read_export(folder).files), MANIFEST, *VERIFICATION_FILES]
    paths = [(name, folder / name) for name in names]
    paths = [(name, path) for name, path in paths if path.is_file() and not path.is_symlink()]
    return tuple(UploadFile(name, path, path.stat().st_size) for name, path in paths)


def is_verified(folder: Path) -> bool:
    """Whether the report beside an export says that every check passed."""
    return verification_of(folder).verified


def check_repository(name: str) -> str:
    """Return a repository's name where it is owner/name. Raises StudioError."""
    if not _REPOSITORY.fullmatch(name):
        raise StudioError(
            say('"{name}" is no repository on the hub.', name=name),
            kind=FailureKind.USAGE,
            advice=say("It is owner/name, such as alice/my-model."),
        )
    return name


def check_upload(folder: Path, repository: str, *, force: bool) -> None:
    """Raise StudioError where an export may not be uploaded. `force` passes over a missing proof and over traces."""
    if broken := damages(folder):
        raise StudioError(
            say("The export is damaged: {broken}.", broken=broken[0]),
            kind=FailureKind.DAMAGED,
            advice=say("Export it again."),
        )
    if force:
        return
    if not is_verified(folder):
        raise StudioError(
            say("This export is not verified, so it is not uploaded."),
            kind=FailureKind.NOT_VERIFIED,
            advice=say("Verify it first: qlora-studio verify {folder}", folder=folder),
        )
    if found := traces(folder, owner=repository.partition("/")[0]):
        raise StudioError(
            say("The export tells of this computer, so it is not uploaded: {found}.", found=found[0]),
            kind=FailureKind.NOT_VERIFIED,
            advice=say("Rename what is named there, and export again."),
            detail="\n".join(found),
        )


def traces(folder: Path, *, owner: str = "") -> list[str]:
    """Return what an export's texts tell of this computer and its user, each with its file and line."""
    home = Path.home()
    folders = {str(home), str(folder.resolve().parent), str(home.resolve())} - {"/"}
    names = {_user(), home.name, platform.node()} - {""}
    names = {name for name in names if name.lower() != owner.lower()}
    found = []
    for file in upload_files(folder):
        if not _is_own_text(file):
            continue
        text = file.path.read_text("utf-8", errors="replace")
        answers = file.name in VERIFICATION_FILES  # the model's words are in there: any folder may be
        for item in disclosures(text, folders=folders, names=() if answers else names, any_folder=not answers):
            found.append(f"{file.name}, line {item.line}: {item.text}")
    return found


def _is_own_text(file: UploadFile) -> bool:
    if file.name in _OF_THE_MODEL or file.size > _LARGEST_TEXT:
        return False
    return file.path.suffix in _TEXTS or file.path.name == "Modelfile"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this user
        return ""
