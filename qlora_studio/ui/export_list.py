"""The exports that lie on disk: what they are by their own manifests, and what their verification found."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qlora_studio.core.events import Exported
from qlora_studio.core.problem import StudioError
from qlora_studio.storage.export_folder import VERIFICATION_FILES, read_manifest

_PLAIN = (str, int, float, bool)


@dataclass(frozen=True)
class PastExport:
    """A finished export and the report of its verification; an empty report where there was none."""

    exported: Exported
    report: dict[str, Any] = field(default_factory=dict, hash=False)


def past_exports(folder: Path) -> tuple[PastExport, ...]:
    """Return the finished exports in a folder, newest first."""
    found = [path for path in folder.glob("[!.]*") if path.is_dir()] if folder.is_dir() else []
    exports = [export for path in sorted(found, key=_age) if (export := past_export(path)) is not None]
    return tuple(exports)


def past_export(path: Path) -> PastExport | None:
    """Return the export in a folder, None where there is no finished one."""
    try:
        manifest = read_manifest(path)
        size = sum(int(entry["size"]) for entry in manifest["files"].values())
    except (StudioError, KeyError, TypeError, ValueError):
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


def _age(path: Path) -> float:
    return -path.stat().st_mtime
