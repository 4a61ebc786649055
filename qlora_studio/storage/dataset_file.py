"""The files of a dataset: found by path, never by pattern; their container and compression told by name."""

import json
import stat
from dataclasses import dataclass
from pathlib import Path

from qlora_studio.core.problem import StudioError

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
# What `datasets` and the hub put beside the data.
_NOT_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "README.md", "config.json")
_SUPPORTED = "JSON Lines, JSON, CSV, TSV, Parquet, Arrow and plain text can be read, also as .gz and .zst."


@dataclass(frozen=True)
class DatasetFile:
    """One file of a dataset. `compression` is gzip, zstd or empty; `size_bytes` is its size on the disk."""

    path: Path
    container: str
    compression: str
    size_bytes: int


def locate_files(source: str) -> tuple[DatasetFile, ...]:
    """Return the file at a path, or the data files of a folder in the order of their names. Raises StudioError."""
    if not source.strip():
        raise _not_found("No dataset is chosen.", "Choose a file of examples.")
    try:
        path = Path(source).expanduser()
        mode = path.stat().st_mode
    except (OSError, ValueError, RuntimeError) as error:
        raise _cannot_find(source, error) from error
    if stat.S_ISDIR(mode):
        return _files_of_folder(path)
    if not stat.S_ISREG(mode):
        raise _refused(f"{path} is not a file.", "Choose a file of examples.")
    file = _described(path)
    if file is None:
        raise _refused(
            f"The name {path.name} does not say what the file holds.", f"{_SUPPORTED} Rename the file to match."
        )
    _check_signature(file)
    return (file,)


def _described(path: Path) -> DatasetFile | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = COMPRESSIONS.get(suffixes[-1], "") if suffixes else ""
    if compression:
        suffixes.pop()
    container = CONTAINERS.get(suffixes[-1]) if suffixes else None
    return DatasetFile(path, container, compression, path.stat().st_size) if container else None


def _check_signature(file: DatasetFile) -> None:
    expected = file.compression or file.container
    try:
        with file.path.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        raise cannot_read(file.path, error) from error
    if file.compression and file.container in ("parquet", "arrow"):
        raise _refused(
            f"{file.path.name} is a compressed {CONTAINER_NAMES[file.container]} file.", "Decompress it first."
        )
    if not head:
        return
    if expected in _EXPECTED_SIGNATURES and not head.startswith(_EXPECTED_SIGNATURES[expected]):
        raise _refused(f"{file.path.name} is not a {expected} file, in spite of its name.", "Rename the file to match.")
    if expected in _EXPECTED_SIGNATURES or expected == "arrow":
        return
    for signature, words in _SIGNATURES:
        if head.startswith(signature):
            raise _refused(f"{file.path.name} is {words}, in spite of its name.", f"{_SUPPORTED} Rename or convert it.")


def _files_of_folder(folder: Path) -> tuple[DatasetFile, ...]:
    try:
        files = _saved_files(folder) or _data_files(folder) or _data_files(folder / "data")
    except OSError as error:
        raise cannot_read(folder, error) from error
    if not files:
        splits = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        if "train" in splits:
            return _files_of_folder(folder / "train")
        advice = f"It has the folders {', '.join(splits[:6])}: choose one of them." if splits else _SUPPORTED
        raise StudioError(f"The folder {folder} holds no data files.", kind="data_not_found", advice=advice)
    containers = {file.container for file in files}
    if len(containers) > 1:
        kinds = " and ".join(sorted(CONTAINER_NAMES[container] for container in containers))
        raise _refused(f"The folder {folder} holds {kinds} side by side.", "Choose one file of it.")
    for file in files:
        _check_signature(file)
    return files


def _saved_files(folder: Path) -> tuple[DatasetFile, ...]:
    """Return the files of a folder that `save_to_disk` wrote, in its order, or nothing."""
    state = folder / "state.json"
    if not state.is_file():
        return ()
    try:
        names = [Path(entry["filename"]).name for entry in json.loads(state.read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(f"{state} is damaged: it does not name the data files.", "Save the dataset again.") from error
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise StudioError(f"{folder} lacks its file {missing[0]}.", kind="data_not_found", advice="Copy it again.")
    return tuple(file for name in names if (file := _described(folder / name)) is not None)


def _data_files(folder: Path) -> tuple[DatasetFile, ...]:
    """Return the data files of a folder; of several splits the training one."""
    if not folder.is_dir():
        return ()
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found = [_described(path) for path in paths if path.name not in _NOT_DATA and path.suffix != ".md"]
    files = [file for file in found if file is not None]
    training = [file for file in files if file.path.name.startswith("train")]
    return tuple(training or files)


def _cannot_find(source: str, error: Exception) -> StudioError:
    if isinstance(error, PermissionError):
        return cannot_read(Path(source), error)
    if _looks_like_hub_name(source):
        return _not_found(
            f"There is no file or folder {source}; it may be the name of a dataset on the hub.",
            "Datasets on the hub are not fetched yet: download its Parquet or JSON Lines file and choose that.",
        )
    return _not_found(f"There is no file {source}.", "Check the path; patterns such as * are not followed.")


def _looks_like_hub_name(source: str) -> bool:
    owner, slash, name = source.partition("/")
    return (
        bool(slash and owner and name) and "/" not in name and not source.startswith((".", "~")) and "\\" not in source
    )


def cannot_read(path: Path, error: OSError) -> StudioError:
    """Return the error for a file that is there and cannot be read."""
    return _refused(f"Cannot read {path}: {error.strerror or error}.", "Check the permissions and the disk.")


def _refused(message: str, advice: str) -> StudioError:
    return StudioError(message, kind="data_refused", advice=advice)


def _not_found(message: str, advice: str) -> StudioError:
    return StudioError(message, kind="data_not_found", advice=advice)
