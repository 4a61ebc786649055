"""Manifests made to agree with files that a test has changed."""

import json
from pathlib import Path

from qlora_studio.storage.durable import MANIFEST, sha256_of


def relist(folder: Path, *, without: str = "") -> None:
    """Let a manifest say that its files have always been as they are now, and nothing of `without`.

    What comes of it has no checksum, as those of version 0.
    """
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    entries = {
        name: {"size": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
        for name in manifest["files"]
        if name != without
    }
    facts = {key: value for key, value in manifest.items() if key not in ("version", "checksum")}
    (folder / MANIFEST).write_text(json.dumps({**facts, "files": entries}), encoding="utf-8")
