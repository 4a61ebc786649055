"""Writes docs/PROTOCOL.md from the models that the program reads and writes with: `python -m tests.protocol_page`."""

import inspect
import json
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run import commands, events, job, message, reports
from qlora_studio.core.run.activity import Activity, Phase
from qlora_studio.storage import durable
from qlora_studio.storage.runs import checkpoint_folder, export_folder
from qlora_studio.storage.runs.run_folder import RunFolder

PAGE = Path(__file__).parents[1] / "docs" / "PROTOCOL.md"
PLACES = {
    "config_path": "The run's settings, complete, as TOML. A job's folder has none.",
    "job_path": "What a job is to do. A run's folder has none: it trains.",
    "events_path": "What the worker tells, a JSON object a line. The living worker alone writes, at the end.",
    "commands_path": "What the user asks, a JSON object a line. Anybody appends, the worker reads.",
    "log_path": "What the worker's libraries print. People read it; and what ended a dead worker is sought there.",
    "lock_path": "Held by the living worker and its supervisor, by a lock of the operating system.",
    "checkpoints_path": "`checkpoint-STEP/`, each with a manifest; a folder beside them whose name says that it is "
    "damaged or half made is never used.",
    "adapter_path": "The final adapter with its tokenizer and a manifest.",
    "exports_path": "A folder an export, each with a manifest, and its proof in `verification.json`.",
    "jobs_path": "A folder a job that was done for this run: exports, verifications, chats.",
}
_PLAIN = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    type(None): "null",
    Any: "anything",
    RunConfig: "the settings of a `run.toml`",
    FailureKind: "a [failure kind](#failure-kinds)",
}
_OF_EVERY_LINE = ("version", "time", "type")


def page() -> str:
    """Return the page."""
    shown = _Models()
    parts = [
        _HEAD,
        "## Run folder\n",
        _table("| Place | What |", ((f"`{place}`", PLACES[name]) for name, place in _places())),
        "\n## Version rule\n",
        f"{_rule()} The version is {message.PROTOCOL_VERSION}.",
        "\n## Events\n",
        "Every line of `events.jsonl` and `commands.jsonl` has `version`, `time` (seconds since 1970, by the sender's "
        "clock) and `type`, the word in the heading.",
        *(shown.section(event, "type") for event in _members(events.Event) if not issubclass(event, reports.Reported)),
        "\n## Reports\n",
        "An event of type `reported` has a `kind`, the word in the heading, and a `report`.",
        *(shown.section(event, "kind") for event in _members(events.Event) if issubclass(event, reports.Reported)),
        "\n## Commands",
        *(shown.section(command, "type") for command in _members(commands.Command)),
        "\n## Jobs\n",
        "`job.json` is one of these; `kind` is the word in the heading.",
        *(shown.section(item, "kind") for item in _members(job.Job)),
        "\n## Manifests\n",
        _MANIFESTS,
        *(shown.section(item) for item in _manifests()),
        "\n## Activities\n",
        "What a worker turns to, as `phase_changed` tells it; the phase is where the run then stands.\n",
        _table("| Word | Phase | Words |", ((f"`{item}`", f"`{item.phase}`", item.words) for item in Activity)),
        "\n## Phases\n",
        _table("| Word | Words |", ((f"`{item}`", item.words) for item in Phase)),
        "\n## Failure kinds\n",
        _table(
            "| Word | Meaning | Exit code |",
            ((f"`{item}`", item.meaning, str(int(item.exit_code))) for item in FailureKind),
        ),
    ]
    return "\n".join([*parts, "\n## Parts\n", "What the models above are made of.", *shown.rest()]) + "\n"


_HEAD = """# Protocol

This page is made from the models by `make protocol`; a test fails where it is not what they say.

A run is a folder. Whoever shows a run, resumes it or exports it reads that folder, and nothing else; the worker and
everyone else speak by two files in it. Sizes are bytes, durations seconds. A number that was NaN or infinite is null.
"""
_MANIFESTS = (
    "`manifest.json` lies in each checkpoint, in the final adapter and in each export. It is written last, so a folder "
    "with a manifest is whole; `files` has the size and the sha256 of every file beside it, by relative path.\n\n"
    "`checksum` is the sha256 of everything else in it, as JSON in UTF-8 with sorted keys, no spaces and none but the "
    "escapes that JSON asks for; that holds for every version. A manifest that it does not fit is damaged. One that it "
    "fits and that has a later `version` is refused: its folder is not used, not set aside and not removed. Version 0 "
    "had neither of the two fields."
)


class _Models:
    """The models that were named and not shown yet, in the order in which they were named."""

    def __init__(self) -> None:
        self._named: dict[str, type] = {}
        self._shown: set[str] = set()

    def section(self, model: type[BaseModel], word: str = "") -> str:
        """Return a model's heading, docstring and fields. `word` is the field whose value is the heading."""
        head = f"`{model.model_fields[word].default}`" if word else model.__name__
        hidden = (*_OF_EVERY_LINE, word) if issubclass(model, message.Message) else (word,)
        rows = [self._row(name, field) for name, field in model.model_fields.items() if name not in hidden]
        fields = "\n\n" + _table("| Field | Type | Default |", rows) if rows else ""
        return f"\n### {head}\n\n{_doc(model)}{fields}"

    def rest(self) -> Iterator[str]:
        """Yield the models that are parts of others, and their parts."""
        while waiting := [name for name in self._named if name not in self._shown]:
            for name in waiting:
                self._shown.add(name)
                model = self._named[name]
                yield self.section(model) if issubclass(model, BaseModel) else self._tuple_section(model)

    def _tuple_section(self, model: Any) -> str:
        rows = [
            (f"`{name}`", self._type(kind), _default(model._field_defaults.get(name, ...)))
            for name, kind in model.__annotations__.items()
        ]
        table = _table("| Field | Type | Default |", rows)
        return f"\n### {model.__name__}\n\n{_doc(model)}\n\nA list of these, in this order:\n\n{table}"

    def _row(self, name: str, field: FieldInfo) -> tuple[str, ...]:
        default = ... if field.is_required() else field.get_default(call_default_factory=True)
        return f"`{name}`", self._type(field.annotation), _default(default)

    def _type(self, kind: Any) -> str:
        """Return a type in words, and remember the models in it."""
        if kind in _PLAIN:
            return _PLAIN[kind]
        origin, inner = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self._type(inner[0])
        if origin is Literal:
            return " or ".join(f"`{item}`" if item else "nothing" for item in inner)
        if origin in (Union, types.UnionType):
            return " or ".join(dict.fromkeys(self._type(item) for item in inner))
        if origin in (list, tuple):
            return f"list of {self._type(inner[0])}"
        if origin is dict:
            key = self._type(inner[0])
            return f"{self._type(inner[1])} by {'name' if key == 'text' else key}"
        self._named.setdefault(kind.__name__, kind)
        return f"[{kind.__name__}](#{kind.__name__.lower()})"


def places(folder: RunFolder) -> dict[str, Path]:
    """Return what lies in a run's folder, by the names that it has in the code, in their order."""
    found = {name: getattr(folder, name) for name in vars(RunFolder) if not name.startswith("__")}
    return {name: path for name, path in found.items() if isinstance(path, Path)}


def _members(union: Any) -> list[type[BaseModel]]:
    """Return the classes of a union, those of the unions in it too."""
    if get_origin(union) is Annotated:
        return _members(get_args(union)[0])
    if get_origin(union) in (Union, types.UnionType):
        return [member for part in get_args(union) for member in _members(part)]
    return [union]


def _manifests() -> list[type[BaseModel]]:
    modules = (durable, checkpoint_folder, export_folder)
    found = {name: item for module in modules for name, item in vars(module).items() if name.endswith("Manifest")}
    return [item for item in found.values() if inspect.isclass(item) and issubclass(item, BaseModel)]


def _places() -> Iterator[tuple[str, str]]:
    folder = RunFolder("run")
    for name, path in places(folder).items():
        place = path.relative_to(folder.path).as_posix()
        yield name, place if path.suffix else f"{place}/"


def _rule() -> str:
    words = inspect.cleandoc(message.__doc__ or "").partition("The version rule: ")[2]
    return words[:1].upper() + " ".join(words.split())[1:]


def _doc(model: type) -> str:
    return inspect.cleandoc(model.__doc__ or "")


def _default(value: Any) -> str:
    if value is ...:
        return "required"
    if isinstance(value, BaseModel):
        return "empty" if value == type(value)() else f"`{value.model_dump_json()}`"
    if isinstance(value, list | tuple):
        return ", ".join(f"`{item}`" for item in value) or "empty"
    return "empty" if value in ("", {}) else f"`{value}`" if isinstance(value, str) else json.dumps(value)


def _table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
    line = "|" + "---|" * (head.count("|") - 1)
    return "\n".join([head, line, *(f"| {' | '.join(row)} |" for row in rows)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE, file=sys.stderr)
