"""The files of a dataset: found by path, never by pattern; their container and compression told by name."""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qlora_studio.core.config.run_config import DatasetSource
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.path_text import is_there, whole_path
from qlora_studio.core.words import say
from qlora_studio.storage.datasets.layout import DEFAULT, Layout, chosen, declared_configs, layout_of
from qlora_studio.storage.foreign import leads_out, open_regular, read_json

CONTAINERS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
CONTAINER_NAMES = {
    "jsonl": "JSON Lines",
    "json": "JSON",
    "csv": "CSV",
    "tsv": "TSV",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "text": "plain text, a row per line",
}
_SIGNATURES = (
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"PK\x03\x04", "a ZIP file or an office document"),
    (b"%PDF", "a PDF"),
    (b"SQLite format 3", "an SQLite database"),
)
_EXPECTED_SIGNATURES = {"parquet": b"PAR1", "gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
# What `datasets` and the hub put beside the data, and what others do.
_NOT_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json")
_NOT_TEXT = re.compile(r"(readme|license|licence|requirements|changelog|contributing)\b.*", re.IGNORECASE)
_DEEPEST, _MOST_FILES = 4, 10_000
_HUB_NAME = re.compile(r"(?:https://huggingface\.co/datasets/|hf://datasets/)?([\w-][\w.-]*/[\w-][\w.-]*)/?")
_SUPPORTED = "JSON Lines, JSON, CSV, TSV, Parquet, Arrow and plain text can be read, also as .gz and .zst."


@dataclass(frozen=True)
class DatasetFile:
    """One file of a dataset. `compression` is gzip, zstd or empty; `size_bytes` is its size on the disk."""

    path: Path
    container: str
    compression: str
    size_bytes: int


@dataclass(frozen=True)
class LocatedDataset:
    """The files that a dataset is read from. `subsets` holds all there are with their splits; `commit` is the hub's."""

    files: tuple[DatasetFile, ...]
    subset: str = ""
    split: str = ""
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    commit: str = ""


def hub_name(path: str) -> str:
    """Return the owner/name that a path means on the hub, or nothing where it is a file's or a folder's."""
    found = _HUB_NAME.fullmatch(path.strip())
    if found is None or _container(Path(found[1]))[0] or is_there(Path(path)):
        return ""
    return found[1]


def locate_dataset(source: DatasetSource) -> LocatedDataset:
    """Return the file at a path, or the data files of a folder. Raises StudioError; DatasetChoice, to be asked."""
    if not source.path.strip():
        raise _not_found(say("No dataset is chosen."), say("Choose a file of examples."))
    try:
        path = whole_path(source.path)
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise _cannot_find(source.path, error) from error
    if stat.S_ISDIR(mode):
        try:
            return located(path, _layout_of_folder(path), source, path.name or str(path))
        except OSError as error:
            raise cannot_read(path, error) from error
    if not stat.S_ISREG(mode):
        raise _refused(say("{path} is not a file.", path=path), say("Choose a file of examples."))
    return LocatedDataset((_file_at(path),))


def located(folder: Path, layout: Layout, source: DatasetSource, name: str, commit: str = "") -> LocatedDataset:
    """Return the files of the subset and split that a source names. Raises StudioError, or DatasetChoice."""
    subset, split = chosen(layout, source)
    files = tuple(_file_at(folder / part) for part in layout[subset][split])
    containers = {CONTAINER_NAMES[file.container] for file in files}
    if len(containers) > 1:
        raise _refused(
            say(
                "The split {split} of {name} holds {containers} side by side.",
                split=split,
                name=name,
                containers=" and ".join(sorted(containers)),
            ),
            say("Choose one file of it."),
        )
    return LocatedDataset(files, subset, split, {key: tuple(splits) for key, splits in layout.items()}, commit)


def data_names(names: Sequence[str]) -> dict[str, str]:
    """Return the names, of all the files of a folder, that are data files, and what each holds in words."""
    found: dict[str, str] = {}
    for name in names:
        path = Path(name)
        container = _container(path)[0]
        hidden = any(part.startswith(".") for part in path.parts)
        if container and not hidden and path.name not in _NOT_DATA and not path.name.startswith("cache-"):
            found[name] = CONTAINER_NAMES[container]
    texts = [name for name, kind in found.items() if kind == CONTAINER_NAMES["text"]]
    for name in texts:
        if len(texts) < len(found) or _NOT_TEXT.fullmatch(Path(name).name):
            del found[name]
    return found


def _file_at(path: Path) -> DatasetFile:
    file = _described(path)
    if file is None:
        raise _refused(
            say("The name {name} does not say what the file holds.", name=path.name),
            say("{supported} Rename the file to match.", supported=_SUPPORTED),
        )
    _check_signature(file)
    return file


def _container(path: Path) -> tuple[str, str]:
    """Return container and compression of a name; both are empty where it does not tell."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = COMPRESSIONS.get(suffixes[-1], "") if suffixes else ""
    if compression:
        suffixes.pop()
    container = CONTAINERS.get(suffixes[-1], "") if suffixes else ""
    return container, compression if container else ""


def _described(path: Path) -> DatasetFile | None:
    container, compression = _container(path)
    return DatasetFile(path, container, compression, path.stat().st_size) if container else None


def _check_signature(file: DatasetFile) -> None:
    expected = file.compression or file.container
    try:
        with os.fdopen(open_regular(file.path), "rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise cannot_read(file.path, error) from error
    if file.compression and file.container in ("parquet", "arrow"):
        raise _refused(
            say(
                "{name} is a compressed {container_names} file.",
                name=file.path.name,
                container_names=CONTAINER_NAMES[file.container],
            ),
            say("Decompress it first."),
        )
    if not head:
        if file.container in ("parquet", "arrow") or file.compression:
            raise _refused(
                say("{name} is empty: it has no bytes.", name=file.path.name), say("Copy or download it again.")
            )
        return
    if expected in _EXPECTED_SIGNATURES and not head.startswith(_EXPECTED_SIGNATURES[expected]):
        raise _refused(
            say("{name} is not a {expected} file, in spite of its name.", name=file.path.name, expected=expected),
            say("Rename the file to match."),
        )
    if expected in _EXPECTED_SIGNATURES or expected == "arrow":
        return
    for signature, words in _SIGNATURES:
        if head.startswith(signature):
            raise _refused(
                say("{name} is {words}, in spite of its name.", name=file.path.name, words=words),
                say("{supported} Rename or convert it.", supported=_SUPPORTED),
            )


def _layout_of_folder(folder: Path) -> Layout:
    if (folder / "state.json").is_file():
        return {DEFAULT: {"train": _saved_names(folder)}}
    splits = [path.name for path in sorted(folder.iterdir()) if (path / "state.json").is_file()]
    if splits and (folder / "dataset_dict.json").is_file():
        return {DEFAULT: {name: tuple(f"{name}/{part}" for part in _saved_names(folder / name)) for name in splits}}
    kinds = data_names(_names_below(folder))
    if not kinds:
        folders = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        advice = f"It has the folders {', '.join(folders[:6])}: choose one of them." if folders else _SUPPORTED
        raise _not_found(say("The folder {folder} holds no data files.", folder=folder), advice)
    return layout_of(kinds, declared_configs(folder / "README.md"), kinds)


def _names_below(folder: Path) -> list[str]:
    """Return the names of the files below a folder, relative, with slashes."""
    names: list[str] = []
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        folders[:] = [name for name in folders if not name.startswith(".")] if len(inside.parts) < _DEEPEST else []
        if out := next((name for name in files if leads_out(Path(place) / name, folder)), ""):
            raise _refused(
                say(
                    "In the folder {folder}, {as_posix} is a link to a file outside of it.",
                    folder=folder,
                    as_posix=(inside / out).as_posix(),
                ),
                say("Choose that file itself, or put a copy of it in the place of the link."),
            )
        names += [(inside / name).as_posix() for name in files]
        if len(names) > _MOST_FILES:
            raise _refused(
                say("The folder {folder} holds more than {most_files:,} files.", folder=folder, most_files=_MOST_FILES),
                say("Choose a folder within it."),
            )
    return names


def _saved_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the files of a folder that `save_to_disk` wrote, in its order."""
    state = folder / "state.json"
    try:
        names = tuple(Path(entry["filename"]).name for entry in read_json(state)["_data_files"])
    except (StudioError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(
            say("{state} is damaged: it does not name the data files.", state=state), say("Save the dataset again.")
        ) from error
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        lacking = f"{folder} lacks its file {missing[0]}." if missing else f"{folder} names no data files."
        raise _not_found(lacking, say("Copy it again."))
    return names


def _cannot_find(source: str, error: Exception) -> StudioError:
    if isinstance(error, PermissionError):
        return cannot_read(Path(source), error)
    if hub_name(source):
        return _not_found(
            say("There is no file or folder {source} here, and it was not fetched from the hub.", source=source), ""
        )
    return _not_found(
        say("There is no file {source}.", source=source), say("Check the path; patterns such as * are not followed.")
    )


def cannot_read(path: Path, error: OSError) -> StudioError:
    """Return the error for a file that is there and cannot be read."""
    return _refused(
        say("Cannot read {path}: {strerror}.", path=path, strerror=error.strerror or error),
        say("Check the permissions and the disk."),
    )


def _refused(message: str, advice: str) -> StudioError:
    return StudioError(message, kind=FailureKind.DATA_REFUSED, advice=advice)


def _not_found(message: str, advice: str) -> StudioError:
    return StudioError(message, kind=FailureKind.DATA_NOT_FOUND, advice=advice)
