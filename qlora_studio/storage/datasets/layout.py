"""Which files of a folder, here or on the hub, make which subset and split; nothing is chosen where there are several.

A folder's README may declare its subsets (`configs` in the YAML on top); else splits are told by names, as `datasets`
tells them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qlora_studio.core.config.run_config import DatasetSource
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.storage.foreign import read_bytes

Layout = dict[str, dict[str, tuple[str, ...]]]  # subset: split: names, relative and with slashes
DEFAULT = "default"
_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_SPLIT = re.compile(rf"(?<![a-z])({'|'.join(sorted(_WORDS, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)
_OTHER = "other"
_SHOWN = 12
_LARGEST_README, _LARGEST_CONFIGS = 16 << 20, 1 << 18
_LONGEST_PATTERN = 1024


class DatasetChoice(StudioError):
    """There are several subsets or splits, and the user has not said which. `subsets` holds the splits of each.

    `path` is that of the dataset, as the config has it.
    """

    def __init__(self, message: str, advice: str, subsets: Mapping[str, tuple[str, ...]], path: str) -> None:
        super().__init__(message, kind=FailureKind.DATA_CHOICE, advice=advice)
        self.subsets, self.path = dict(subsets), path


def layout_of(names: Iterable[str], declared: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> Layout:
    """Return the subsets and splits of data files. `declared` are the README's configs, `kinds` say what a name holds.

    Without declared configs, files of several kinds are as many subsets: the same rows may be there in each of them.
    """
    names = sorted(names)
    found = {_text(config.get("config_name")) or DEFAULT: _declared(config, names) for config in declared}
    if any(found.values()):
        return {subset: splits for subset, splits in found.items() if splits}
    by_kind: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        by_kind[kinds[name]].append(name)
    if len(by_kind) == 1:
        return {DEFAULT: _inferred(names)}
    return {kind: _inferred(group) for kind, group in by_kind.items()}


def chosen(layout: Layout, source: DatasetSource) -> tuple[str, str]:
    """Return subset and split: those that are named, or the only ones. Raises DatasetChoice."""
    subset = _one("subset", source.subset, list(layout), layout, source)
    return subset, _one("split", source.split, list(layout[subset]), layout, source)


def declared_configs(readme: Path) -> list[Mapping[str, Any]]:
    """Return the configs that a README declares on top, or nothing."""
    import yaml

    try:
        text = read_bytes(readme, limit=_LARGEST_README).decode("utf-8", "replace")
    except (OSError, StudioError):
        return []
    top = re.match(r"\A\ufeff?---\s*\n(.*?)\n---\s*(?:\n|\Z)", text, re.DOTALL)
    # This part alone: the columns of each subset stand there too, and reading them takes seconds.
    declared = re.search(r"^configs:.*(?:\n(?:[ \t#-].*)?)*", top[1], re.MULTILINE) if top else None
    try:
        data = yaml.safe_load(declared[0]) if declared and len(declared[0]) < _LARGEST_CONFIGS else None
    except (yaml.YAMLError, RecursionError, ValueError):
        return []
    configs = data.get("configs") if isinstance(data, dict) else None
    return [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []


def converted_layout(names: Iterable[str]) -> Layout:
    """Return the layout of the hub's own Parquet conversion: SUBSET/SPLIT/0000.parquet."""
    layout: defaultdict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for name in sorted(names):
        parts = name.split("/")
        if len(parts) == 3:
            layout[parts[0]][parts[1]] = (*layout[parts[0]].get(parts[1], ()), name)
    return dict(layout)


def _one(what: str, wanted: str, there: list[str], layout: Layout, source: DatasetSource) -> str:
    if wanted in there or (not wanted and len(there) == 1):
        return wanted or there[0]
    words = ", ".join(there[:_SHOWN]) + (f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else "")
    message = f"{source.name} has several {what}s: {words}."
    if wanted:
        message = f"{source.name} has no {what} {wanted!r}; it has: {words}."
    advice = f"Choose one: data.{what} for the first dataset, such as {there[0]}, or {what} in its [[data.more]] table."
    raise DatasetChoice(message, advice, {name: tuple(splits) for name, splits in layout.items()}, source.path)


def _declared(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    folder = _text(config.get("data_dir")).strip("/")
    inside = [name for name in names if not folder or name.startswith(folder + "/")]
    files = config.get("data_files")
    if files is None:
        return _inferred(inside) if folder else {}
    entries = files if isinstance(files, list) else [files]
    splits: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for entry in entries:
        split = _text(entry.get("split")) if isinstance(entry, dict) else ""
        patterns = entry.get("path") if isinstance(entry, dict) else entry
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            matches = _matching(f"{folder}/{_text(pattern)}" if folder else _text(pattern), inside)
            splits[split or "train"].update(dict.fromkeys(matches))
    return {split: tuple(found) for split, found in splits.items() if found}


def _matching(pattern: str, names: Sequence[str]) -> list[str]:
    """Return the names that a pattern of the README means; `*` goes not over a slash, `**` does."""
    if len(pattern) > _LONGEST_PATTERN:
        return []
    parts = [part for part in re.split(r"(\*\*/?|\*|\?)", pattern.removeprefix("./")) if part]
    return [name for name in names if _fits(name, parts)]


def _fits(name: str, parts: Sequence[str]) -> bool:
    """Whether a name is of a pattern: all places that its parts can reach, so that a regex's ways are not tried."""
    places = {0}
    for part in parts:
        if part == "**":
            places = set(range(min(places), len(name) + 1))
        elif part == "**/":
            places |= {place + 1 for place in range(min(places), len(name)) if name[place] == "/"}
        elif part == "*":
            for place in range(min(places), len(name)):
                if place in places and name[place] != "/":
                    places.add(place + 1)
        elif part == "?":
            places = {place + 1 for place in places if name[place : place + 1] not in ("", "/")}
        else:
            places = {place + len(part) for place in places if name.startswith(part, place)}
        if not places:
            return False
    return len(name) in places


def _inferred(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[_split_of(name)].append(name)
    if list(groups) == [_OTHER]:
        return {"train": tuple(names)}
    return {split: tuple(groups[split]) for split in ("train", "validation", "test", _OTHER) if split in groups}


def _split_of(name: str) -> str:
    """Return the split that a file's name tells, or else its folders' names from the inside out."""
    for part in reversed(name.split("/")):
        if found := _SPLIT.search(part):
            return _WORDS[found[1].lower()]
    return _OTHER


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
