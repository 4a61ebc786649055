"""Every reader of files that a stranger may have made: how it is called, on what sound file, and how far it may go."""

import contextlib
import io
import json
import os
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from qlora_studio.core.errors import StudioError
from tests.fuzz import samples
from tests.fuzz.mutations import altered, damaged, dumped, encoded, flipped, toml_text

Damage = Callable[[bytes, list[bytes], random.Random], bytes]
_SOUND = Path(__file__).parents[1] / "compatibility" / "v0_1" / "finished"
_NAMES = ("../outside", "/outside", "adapter/../../outside", "C:\\outside", "adapter/nul", "adapter/\x00a", "adapter/")
_ADAPTER, _EXPORT = "adapter", "exports/safetensors"


@dataclass(frozen=True)
class Reader:
    """`read` gets a folder in which the file of this name was changed; `around` is copied there beforehand.

    `errors` are those that its callers know. What a case may take is above what the process held before it.
    """

    name: str
    file: str
    read: Callable[[Path], object]
    seeds: Callable[[], list[bytes]]
    damage: Damage = damaged
    errors: tuple[type[BaseException], ...] = (StudioError,)
    around: Path | None = None
    seconds: float = 2.0
    megabytes: int = 200
    repaired: Callable[[bytes], bytes] = lambda data: data
    is_bounded: bool = False  # who started its process ends it
    is_file: bool = True
    on_disk: bool = False  # a file system in memory takes every offset; others do not

    def prepare(self, folder: Path) -> None:
        """Put beside the file what belongs there."""
        if self.around is not None:
            shutil.copytree(self.around, folder, dirs_exist_ok=True)
        (folder / self.file).parent.mkdir(parents=True, exist_ok=True)

    def warm_up(self) -> None:
        """Read each seed once, so that what is imported and kept is there before cases are measured."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            os.environ["QLORA_STUDIO_HOME"] = name
            self.prepare(folder)
            for seed in self.seeds():
                (folder / self.file).write_bytes(self.repaired(seed))
                with contextlib.redirect_stdout(io.StringIO()):
                    self.read(folder)

    def case(self, number: int) -> bytes:
        """Return the bytes of a case, always the same."""
        rng = random.Random(f"{self.name}/{number}")
        seeds = self.seeds()
        return self.repaired(self.damage(rng.choice(seeds), seeds, rng))

    def flip(self, number: int) -> bytes | None:
        """Return a seed with one bit turned, counted through all seeds; None behind the last bit."""
        for seed in self.seeds():
            if number < 8 * len(seed):
                return flipped(seed, number)
            number -= 8 * len(seed)
        return None


def readers() -> list[Reader]:
    """Return all of them."""
    return [*_of_runs(), *_of_models(), *_of_datasets(), *_of_the_program()]


def _of_runs() -> Iterator[Reader]:
    yield Reader("run.toml", "run.toml", _run_config, _sound("run.toml", under=_ADAPTER), _toml)
    yield Reader("a run file", "run.toml", _run_file, _sound("run.toml", under=_ADAPTER), _toml)
    yield Reader("events", "events.jsonl", _events, _sound("events.jsonl"), _lines, around=None)
    yield Reader("a run in the list", "run/events.jsonl", _listed, _sound("events.jsonl"), _lines)
    yield Reader("a compared run", "run/events.jsonl", _compared, _sound("events.jsonl"), _lines)
    yield Reader("commands", "commands.jsonl", _commands, samples.commands, _lines)
    yield Reader("job.json", "job.json", _job, samples.jobs, _json, errors=(StudioError, ValueError))
    manifest = _sound("manifest.json", under="checkpoints/checkpoint-4")
    yield Reader("manifest of a checkpoint", "run/manifest.json", _manifest, manifest, _json, repaired=samples.checked)
    manifest = _sound("manifest.json", under=_EXPORT)
    yield Reader("manifest of an export", "run/manifest.json", _exports, manifest, _json, repaired=samples.checked)
    adapter = _SOUND / "adapter"
    yield Reader(
        "adapter_config.json",
        "adapter_config.json",
        _parent,
        _sound("adapter_config.json", under=_ADAPTER),
        _json,
        around=adapter,
    )
    yield Reader(
        "adapter's header",
        "adapter_model.safetensors",
        _parent,
        _sound("adapter_model.safetensors", under=_ADAPTER),
        _safetensors,
        around=adapter,
    )
    yield Reader(
        "base_fingerprint.json",
        "base_fingerprint.json",
        _base_fingerprint,
        _sound("base_fingerprint.json", under=_ADAPTER),
        _json,
    )
    yield Reader(
        "verification.json", "verification.json", _verification, _sound("verification.json", under=_EXPORT), _json
    )
    yield Reader("queue.json", "queue.json", _queue, samples.queue, _json)
    yield Reader("elsewhere/record.json", "elsewhere/record.json", _elsewhere, samples.elsewhere_records, _json)
    yield Reader("elsewhere/told.json", "elsewhere/told.json", _told_elsewhere, samples.elsewhere_told, _json)
    yield Reader("the answer of a place", "answer", _answer, samples.answers, errors=(ValueError,), is_file=False)
    yield Reader("label.json", "label.json", _label, samples.labels, _json, errors=(StudioError, OSError))
    yield Reader("a packed run", "run.zip", _taken_in, samples.packed_runs, _pack)


def _of_models() -> Iterator[Reader]:
    around = _SOUND / _EXPORT
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        yield Reader(name, name, _model, _sound(name, under=_EXPORT), _json, around=around)
    yield Reader(
        "chat_template.jinja",
        "chat_template.jinja",
        _model,
        _sound("chat_template.jinja", under=_EXPORT),
        around=around,
    )
    yield Reader("model card", "README.md", _model, _sound("README.md", under=_EXPORT), around=around)
    yield Reader(
        "safetensors header",
        "model.safetensors",
        _model,
        _sound("model.safetensors", under=_EXPORT),
        _safetensors,
        around=around,
    )
    yield Reader("safetensors index", "model.safetensors.index.json", _model, samples.index, _json, around=around)
    manifest_of_ollama = "manifests/registry.ollama.ai/library/x/1b"
    yield Reader("Ollama's manifest", manifest_of_ollama, _local_models, samples.ollama_manifest, _json)
    yield Reader("GGUF header", "model.gguf", _gguf, samples.gguf, on_disk=True)


def _of_datasets() -> Iterator[Reader]:
    yield _dataset("JSON Lines", "rows.jsonl", samples.json_lines, _lines)
    yield _dataset("a JSON array", "rows.json", samples.json_array, _json)
    yield _dataset("CSV", "rows.csv", samples.csv_rows)
    yield _dataset("TSV", "rows.tsv", samples.tsv_rows)
    yield _dataset("plain text", "rows.txt", samples.text_rows)
    yield _dataset("UTF-16 text", "rows.csv", samples.utf16_rows, encoding="utf-16")
    yield _dataset("gzip", "rows.jsonl.gz", samples.gzip_rows)
    yield _dataset("Zstandard", "rows.jsonl.zst", samples.zstd_rows)
    yield _dataset("Parquet", "rows.parquet", samples.parquet_rows)
    yield _dataset("Arrow stream", "rows.arrow", samples.arrow_stream)
    yield _dataset("Arrow file", "rows.arrow", samples.arrow_file)
    yield _dataset("Arrow's own JSON", "rows.parquet", samples.parquet_json)
    yield Reader("README of a folder", "data/README.md", _folder, samples.dataset_card, around=None)
    yield Reader("state.json", "data/state.json", _folder, samples.saved_state, _json)
    yield _dataset("a conversation", "rows.jsonl", samples.conversations, _lines)


def _of_the_program() -> Iterator[Reader]:
    yield Reader("settings", "settings.json", _settings, samples.settings, _json)
    yield Reader("session", "session.json", _session, samples.session, _json)
    yield Reader("probe records", "cache/probes.json", _probes, samples.probes, _json)
    yield Reader("index of runs", "cache/runs.jsonl", _index, samples.run_index, _lines)
    yield Reader("known hashes", "cache/hashes.json", _hashes, samples.hashes, _json)
    manifest = samples.kept_base
    yield Reader("a kept base", "cache/bases/base/manifest.json", _kept_base, manifest, _json, repaired=samples.checked)
    yield Reader("a known report", "cache/reports/report.json", _known_report, samples.reports, _json)
    yield Reader(
        "a chat template",
        "template.jinja",
        _template,
        samples.templates,
        is_bounded=True,
        is_file=False,
        seconds=5.0,
        megabytes=1100,
    )
    yield Reader(
        "a row for a template",
        "row.json",
        _rendered,
        samples.template_rows,
        _json,
        is_bounded=True,
        is_file=False,
        seconds=5.0,
        megabytes=1100,
    )


def _sound(name: str, under: str = "") -> Callable[[], list[bytes]]:
    data = (_SOUND / under / name).read_bytes()
    return lambda: [data]


def _json(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Damage JSON: mostly what it says, else its bytes."""
    if rng.random() < 0.25:
        return damaged(data, others, rng)
    value = altered(json.loads(data), rng)
    return encoded(dumped(altered(value, rng) if rng.random() < 0.3 and isinstance(value, dict | list) else value))


def _lines(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    if rng.random() < 0.25:
        return b"".join([*lines[:at], damaged(lines[at], others, rng), *lines[at + 1 :]])
    changed = encoded(dumped(altered(json.loads(lines[at]), rng)))
    return b"".join([*lines[:at], changed, b"\n", *lines[at + 1 :]])


def _toml(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    import tomllib

    if rng.random() < 0.25:
        return damaged(data, others, rng)
    value = altered(tomllib.loads(data.decode()), rng)
    return encoded(toml_text(value) if isinstance(value, dict) else dumped(value))


def _safetensors(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return damaged(data, others, rng)
    length = int.from_bytes(data[:8], "little")
    header = encoded(dumped(altered(json.loads(data[8 : 8 + length]), rng)))
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def _pack(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Damage a zip: its bytes, or what it says that one of its files is called, and is."""
    if rng.random() < 0.5:
        return damaged(data, others, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as pack:
        files = [(name, pack.read(name), 0) for name in pack.namelist()]
    name, held, _ = files[at := rng.randrange(len(files))]
    name = rng.choice([name, *_NAMES, name + rng.choice(_NAMES), name.replace("/", "/../"), name.upper()])
    files[at] = (name, held * rng.choice([1, 1, 20_000]), rng.choice([0, 0o100644, 0o120777, 0o010644, 0o040755]))
    return samples.zipped(
        [*files, *rng.choice([[], [files[0]]])], rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    )


def _run_config(folder: Path) -> object:
    from qlora_studio.storage.runs.run_folder import RunFolder

    return RunFolder(folder).config()


def _run_file(folder: Path) -> object:
    from argparse import Namespace

    from qlora_studio.cli.run_source import run_config

    return run_config(
        Namespace(run_file=str(folder / "run.toml"), preset=None, model=None, data=[], weights="", overrides=[])
    )


def _events(folder: Path) -> object:
    from qlora_studio.storage.runs.run_folder import RunFolder

    return RunFolder(folder).replay()


def _listed(folder: Path) -> object:
    from argparse import Namespace

    from qlora_studio.cli.console import Console
    from qlora_studio.cli.watch_command import list_runs

    shutil.copy(_SOUND / _ADAPTER / "run.toml", folder / "run" / "run.toml")
    return list_runs(Namespace(runs=str(folder)), Console(json=True))


def _compared(folder: Path) -> object:
    from argparse import Namespace

    from qlora_studio.cli.console import Console
    from qlora_studio.cli.run_care.compare_command import compare_runs

    shutil.copy(_SOUND / _ADAPTER / "run.toml", folder / "run" / "run.toml")
    folders = [str(folder / "run"), str(_SOUND)]
    return compare_runs(Namespace(run_dirs=folders, all=True), Console(json=True))  # the table is made, too


def _index(folder: Path) -> object:
    """List a run that the index knows; its lines are given their checksums, and the run's place."""
    from argparse import Namespace

    from qlora_studio.cli.console import Console
    from qlora_studio.cli.watch_command import list_runs
    from qlora_studio.storage.runs.run_index import _MADE_BY

    index, run = folder / "cache" / "runs.jsonl", folder / "runs" / "run"
    run.mkdir(parents=True, exist_ok=True)
    shutil.copy(_SOUND / _ADAPTER / "run.toml", run)
    if index.is_file() and not index.is_symlink() and index.stat().st_size < 1 << 20:
        lines = index.read_bytes().replace(b"@MADE", _MADE_BY.encode()).replace(b"@RUN", bytes(run)).splitlines()
        index.write_bytes(b"".join(b"%08x %s\n" % (zlib.crc32(line), line) for line in lines))
    return list_runs(Namespace(runs=str(run.parent)), Console(json=True))


def _commands(folder: Path) -> object:
    from qlora_studio.core.run.commands import parse_command
    from qlora_studio.storage.runs.message_log import MessageLogReader

    return list(MessageLogReader(folder / "commands.jsonl", parse_command).all())


def _job(folder: Path) -> object:
    from qlora_studio.storage.runs.run_folder import RunFolder

    return RunFolder(folder).job()


def _manifest(folder: Path) -> object:
    from qlora_studio.storage.durable import DamagedManifest, disagreements, read_manifest
    from qlora_studio.storage.runs.checkpoint_folder import CheckpointManifest

    try:
        manifest = read_manifest(folder / "run", CheckpointManifest)
    except DamagedManifest:
        return None
    return list(disagreements(folder / "run", manifest))


def _exports(folder: Path) -> object:
    from qlora_studio.storage.runs.export_folder import exports_of

    return exports_of(folder)


def _parent(folder: Path) -> object:
    from qlora_studio.core.config.run_config import RunConfig
    from qlora_studio.storage.runs.parent_adapter import with_parent

    return with_parent(RunConfig.model_validate({"lora": {"start_from": str(folder)}}))


def _base_fingerprint(folder: Path) -> object:
    from qlora_studio.storage.runs.fingerprint import read_base_fingerprint

    return read_base_fingerprint(folder)


def _verification(folder: Path) -> object:
    from qlora_studio.storage.runs.export_folder import verification_of

    return verification_of(folder)


def _queue(folder: Path) -> object:
    from qlora_studio.storage.runs.run_queue import RunQueue

    return RunQueue(folder).runs()


def _elsewhere(folder: Path) -> object:
    """Read where a run is said to be: nothing but plain names comes out."""
    from qlora_studio.storage.runs.elsewhere_record import claimed_record, is_open_elsewhere

    is_open_elsewhere(folder)
    if (record := claimed_record(folder)) is not None:
        assert not {*record.folder} & {*"\0\n '\"$`;|&<>()"}
    return record


def _told_elsewhere(folder: Path) -> object:
    """Read how a run was seen there, and say it."""
    from qlora_studio.core.elsewhere.told import elsewhere_words
    from qlora_studio.storage.runs.elsewhere_record import read_told

    told = read_told(folder)
    return told and elsewhere_words(told)


def _answer(folder: Path) -> object:
    """Read what a place answered, and what its scheduler said."""
    from qlora_studio.core.elsewhere.job_state import job_state
    from qlora_studio.core.elsewhere.shell import parts

    found = list(parts((folder / "answer").read_bytes()))
    return [job_state(part.text, code, part.text, part.text) for part in found for code in (0, 1)]


def _label(folder: Path) -> object:
    """Read what a run is called, and give it a tag more."""
    from qlora_studio.storage.run_care.run_label import read_label, write_label
    from qlora_studio.storage.runs.run_folder import RunFolder

    run = RunFolder(folder)
    label = read_label(run)
    write_label(run, label.model_copy(update={"tags": (*label.tags[:29], "more")}))
    return read_label(run)


def _taken_in(folder: Path) -> object:
    from qlora_studio.storage.run_care.run_import import import_run

    shutil.rmtree(folder / "runs", ignore_errors=True)
    taken = import_run(folder / "run.zip", folder / "runs")
    outside = {path.name for path in folder.iterdir()} - {"run.zip", "runs", "cache"}
    if outside or list((folder / "runs").iterdir()) != [taken.path]:
        raise AssertionError(f"it wrote {outside or 'beside the run'}")
    return taken.config()


def _local_models(folder: Path) -> object:
    from qlora_studio.storage.models.local_models import local_models

    os.environ["OLLAMA_MODELS"] = str(folder)
    return local_models()


def _model(folder: Path) -> object:
    from qlora_studio.storage.models.folder import chat_template, generation_config
    from qlora_studio.storage.models.location import ModelLocation, model_facts

    location = ModelLocation("folder", str(folder), folder)
    return model_facts(location), chat_template(folder), generation_config(folder)


def _gguf(folder: Path) -> object:
    from qlora_studio.storage.models.location import ModelLocation, model_facts

    return model_facts(ModelLocation("gguf", "model.gguf", folder / "model.gguf"))


def _dataset(
    name: str, file: str, seeds: Callable[[], list[bytes]], damage: Damage = damaged, **settings: Any
) -> Reader:
    return Reader(name, file, lambda folder: _read(folder / file, **settings), seeds, damage)


def _folder(folder: Path) -> object:
    (folder / "data" / "train.jsonl").write_bytes(samples.json_lines()[0])
    return _read(folder / "data")


def _read(path: Path, **settings: Any) -> object:
    """Read a dataset as a run does: the survey, and the rows again."""
    from qlora_studio.core.config.run_config import DatasetSource
    from qlora_studio.storage.datasets.reader import open_dataset

    reader = open_dataset(DatasetSource(path=str(path), **settings))
    reader.encoding_readings()
    survey = reader.survey()
    rows = sum(1 for _ in reader.rows())
    if rows != survey.total:
        raise AssertionError(f"{survey.total} rows at first, then {rows}")
    return json.dumps(survey.first_rejections and survey.first_rejections[0].reason).encode()


def _settings(folder: Path) -> object:
    from qlora_studio.storage.settings import load_settings

    settings = load_settings()
    return settings.runs_path


def _session(folder: Path) -> object:
    from qlora_studio.storage.session import load_session

    session = load_session()
    return session.page, session.place, session.config(), session.recent_models


def _probes(folder: Path) -> object:
    from qlora_studio.core.memory.probe_record import newest_for
    from qlora_studio.storage.runs.probe_records import probe_records

    return newest_for(probe_records(), "GPU-1", None)


def _hashes(folder: Path) -> object:
    from qlora_studio.storage.runs.fingerprint import fingerprint_file

    return fingerprint_file(_SOUND / "adapter" / "adapter_config.json")


def _kept_base(folder: Path) -> object:
    from qlora_studio.storage.models.kept_bases import kept_name

    return kept_name(folder / "cache" / "bases" / "base")


def _known_report(folder: Path) -> object:
    from qlora_studio.jobs.known_report import known_report

    return known_report(folder / "cache" / "reports" / "report.json")


def _template(folder: Path) -> object:
    from qlora_studio.engine.templates import child

    text = (folder / "template.jinja").read_bytes().decode("utf-8", "surrogateescape")
    return _conversation(child, text, *samples.conversation())


def _rendered(folder: Path) -> object:
    from qlora_studio.core.config.run_config import DatasetSource
    from qlora_studio.engine.templates import child
    from qlora_studio.storage.datasets.reader import open_dataset

    (folder / "rows.jsonl").write_bytes((folder / "row.json").read_bytes().replace(b"\n", b" "))
    answers = []
    for row in open_dataset(DatasetSource(path=str(folder / "rows.jsonl"))).rows():
        if row.example is not None and row.example.text is None:
            example = row.example
            answers.append(_conversation(child, samples.CHATML, example.messages, example.tools, example.variables))
    return answers


def _conversation(child: Any, template: str, *row: Any) -> object:
    request = {"template": template, "variables": {}, "control_tokens": ["<|im_end|>"], "end_token": "<|im_end|>"}
    how = {"stops": [], "now": "2026-01-01T00:00:00", "learned": "assistant", "joins": False, "keeps": False}
    finders, reply = child._started(json.loads(json.dumps(request | how)))
    if finders is not None:
        reply = child._row(finders, *json.loads(json.dumps(row)))
    return json.dumps(reply)
