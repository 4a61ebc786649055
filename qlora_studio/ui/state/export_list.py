"""The exports that lie on disk: what they are by their own manifests, and what their verification found."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qlora_studio.core.run.events import Exported
from qlora_studio.storage.runs.export_folder import VERIFICATION_FILES, exports_of

_PLAIN = (str, int, float, bool)


@dataclass(frozen=True)
class PastExport:
    """A finished export and the report of its verification; an empty report where there was none."""

    exported: Exported
    report: dict[str, Any] = field(default_factory=dict, hash=False)


def past_exports(folder: Path) -> tuple[PastExport, ...]:
    """Return the finished exports in a folder, newest first."""
    exports = [_past_export(path, manifest) for path, manifest in exports_of(folder)]
    return tuple(export for export in exports if export is not None)


def _past_export(path: Path, manifest: dict[str, Any]) -> PastExport | None:
    try:
        size = sum(int(entry["size"]) for entry in manifest["files"].values())
    except (KeyError, TypeError, ValueError):
        return None
    facts = {key: value for key, value in manifest.items() if isinstance(value, _PLAIN)}
    exported = Exported(format=str(facts.get("format", "")), path=str(path), size_bytes=size, facts=facts)
    return PastExport(exported, _report(path / VERIFICATION_FILES[0]))


def _report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}
