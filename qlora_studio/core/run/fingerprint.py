"""What a base model or a dataset is, by content."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BaseModel):
    """What a file was when it was written or read. `size` in bytes."""

    model_config = ConfigDict(frozen=True, strict=True)

    size: int = Field(ge=0, le=10**13)  # ten terabytes; of all files in a manifest it is a number of 64 bits still
    sha256: Sha256


class Fingerprint(BaseModel):
    """What a base or a dataset is, by content: files by name, or the hash of the rows that were made of them."""

    model_config = ConfigDict(frozen=True, strict=True)

    files: dict[str, FileEntry | str] = Field(default_factory=dict)


class Fingerprints(BaseModel):
    """What a run is made from."""

    model_config = ConfigDict(frozen=True, strict=True)

    base: Fingerprint = Fingerprint()
    data: Fingerprint = Fingerprint()


def differences(expected: Fingerprint, found: Fingerprint) -> list[str]:
    """Return what differs between two fingerprints, in words; empty where they agree."""
    old, new = expected.files, found.files
    missing = [f"{name} is missing" for name in old if name not in new]
    added = [f"{name} is new" for name in new if name not in old]
    changed = [f"{name} has other content" for name in old if name in new and old[name] != new[name]]
    return missing + added + changed
