"""The hub's own cache of downloads: which models lie in it. Nothing of the hub is imported."""

import os
from pathlib import Path


def cached_snapshot(source: str, revision: str) -> Path | None:
    """Return the hub cache's folder of a revision, where config and weights are all there."""
    repository = _hub_cache() / ("models--" + source.replace("/", "--"))
    reference = repository / "refs" / revision
    commit = reference.read_text("utf-8").strip() if reference.is_file() else revision
    snapshot = repository / "snapshots" / commit
    has_weights = any(snapshot.glob("*.safetensors")) or any(snapshot.glob("*.gguf"))
    return snapshot if (snapshot / "config.json").exists() and has_weights else None


def _hub_cache() -> Path:
    if path := os.environ.get("HF_HUB_CACHE"):
        return Path(path)
    home = os.environ.get("HF_HOME")
    base = Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return base / "hub"
