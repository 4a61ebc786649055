"""The hub's own cache of downloads: which models lie in it. Nothing of the hub is imported."""

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout


def cached_snapshot(source: str, revision: str) -> Path | None:
    """Return the hub cache's folder of a revision, where config and weights are all there."""
    repository = hub_cache() / ("models--" + source.replace("/", "--"))
    reference = repository / "refs" / revision
    commit = reference.read_text("utf-8").strip() if reference.is_file() else revision
    snapshot = repository / "snapshots" / commit
    has_weights = any(snapshot.glob("*.safetensors")) or any(snapshot.glob("*.gguf"))
    return snapshot if (snapshot / "config.json").exists() and has_weights else None


def remove_partial_files(name: str, kind: str = "models") -> list[Path]:
    """Remove what downloads of a repository left that were killed; return it.

    The hub's library never goes on with such a file. One that is being written now is known by its lock, and stays.
    """
    repository = f"{kind}--{name.replace('/', '--')}"
    removed = []
    for path in (hub_cache() / repository / "blobs").glob("*.incomplete"):
        lock = hub_cache() / ".locks" / repository / f"{path.name.partition('.')[0]}.lock"
        with suppress(OSError, Timeout), FileLock(lock).acquire(blocking=False):
            path.unlink()
            removed.append(path)
    return removed


def hub_cache() -> Path:
    """Return where the hub keeps its downloads."""
    if path := os.environ.get("HF_HUB_CACHE"):
        return Path(path)
    home = os.environ.get("HF_HOME")
    base = Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return base / "hub"
