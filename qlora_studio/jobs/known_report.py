"""Reports on datasets that were checked before: told again without a worker while nothing that decides them is another.

A report goes by the settings, the content of all files of the data and of those of the model that say how rows become
tokens, the versions, and the day where the template may write one. Of the hub, only what lies here is known this well.
"""

import hashlib
import json
import platform
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qlora_studio import __version__
from qlora_studio.core.config.run_config import DatasetSource, RunConfig
from qlora_studio.core.data.base_templates import AUTO
from qlora_studio.core.data.report import DataReport
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.titles import STARTER
from qlora_studio.storage.datasets.files import hub_name, locate_dataset
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.foreign import read_parsed
from qlora_studio.storage.models.location import locate_model, model_facts
from qlora_studio.storage.runs.fingerprint import fingerprint_file
from qlora_studio.storage.settings import cache_path

_LAYOUT = 2  # changes when a check says something else of the same rows
_DECIDE = ("datasets", "jinja2", "numpy", "tokenizers", "torch", "transformers", "trl")
_DATES = "strftime_now"
_SMALL = ("*.json", "*.jinja", "*.model", "*.txt")
_KEPT = 20  # reports
_LARGEST = 32 << 20  # bytes


def report_place(config: RunConfig) -> Path | None:
    """Return where the report on a config's datasets is kept; None where what decides it cannot be known from here."""
    try:
        facts = [_LAYOUT, __version__, platform.python_version(), {name: version(name) for name in _DECIDE}]
        facts += [config.model_dump(mode="json"), *map(_data, _sources(config)), _model(config)]
    except (OSError, StudioError, _Unknown):
        return None  # the worker says what is wrong with it
    return reports_path() / f"{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]}.json"


def known_report(place: Path | None) -> DataReport | None:
    """Return the report at a place, where the rows that it speaks of are still prepared."""
    if place is None:
        return None
    try:
        report = read_parsed(place, DataReport.model_validate_json, limit=_LARGEST)
        verdicts = Path(report.verdicts_path)
        is_there = verdicts.parent.parent == cache_path() / "datasets" and verdicts.is_file()
    except (OSError, StudioError):
        return None
    if not report.complete or not is_there:
        return None
    place.touch()
    return report


def keep_report(place: Path | None, report: DataReport, config: RunConfig) -> None:
    """Keep a report where what it was made from is still what it was; what cannot be kept is not missed much."""
    if place is None or not report.complete or place != report_place(config):
        return
    with suppress(OSError, StudioError):
        write_atomically(place, report.model_dump_json().encode())
        for path in sorted(place.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            path.unlink()


def reports_path() -> Path:
    """Return the folder of reports."""
    return cache_path() / "reports"


class _Unknown(Exception):
    """Something that decides a report cannot be known from here."""


def _sources(config: RunConfig) -> Iterator[DatasetSource]:
    yield from config.data.sources
    if config.data.evaluation:
        yield config.data.evaluation


def _data(source: DatasetSource) -> list[Any]:
    if hub_name(source.path):
        raise _Unknown
    found = locate_dataset(source)
    subsets = {name: list(splits) for name, splits in found.subsets.items()}
    return [found.subset, found.split, subsets, *(_file(file.path) for file in found.files)]


def _model(config: RunConfig) -> list[Any]:
    """Return what makes rows into tokens, and the day, but where the model's template is used and writes none."""
    location = locate_model(config.model.source or STARTER, config.model.revision)
    if location.path is None:
        raise _Unknown
    folder = location.path
    files = [folder] if location.kind == "gguf" else sorted({path for glob in _SMALL for path in folder.glob(glob)})
    template = model_facts(location).chat_template
    is_dateless = config.data.chat_template == AUTO and template is not None and _DATES not in template
    return [*(_file(path) for path in files), "" if is_dateless else date.today().isoformat()]


def _file(path: Path) -> list[Any]:
    return [str(path), fingerprint_file(path).model_dump()]
