"""All that decides the rows of a run, frozen: the one input of their preparation, and the key of its cache."""

import json
from dataclasses import dataclass, fields
from datetime import date, datetime, time
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from qlora_studio import __version__
from qlora_studio.core.config.run_config import DatasetSource, RunConfig
from qlora_studio.engine.data.opened import OpenedData
from qlora_studio.engine.data.tokenized_rows import RowPipeline
from qlora_studio.engine.templates.base_template import choose_template
from qlora_studio.engine.templates.message_keys import message_keys
from qlora_studio.engine.templates.prompting import Prompting
from qlora_studio.engine.templates.rendering import known_stops
from qlora_studio.storage.datasets.files import DatasetFile
from qlora_studio.storage.datasets.mixture import DatasetMixture
from qlora_studio.storage.runs.fingerprint import fingerprint_file
from qlora_studio.storage.runs.run_folder import RunFolder

_LAYOUT = 13  # changes when the same input gives other rows
_NO_DAY = datetime(2000, 1, 1)
_HOW_ROWS_ARE_READ = set(DatasetSource.model_fields) - {"path"}  # the same files give the same rows anywhere


@dataclass(frozen=True)
class DataPlan:
    """What `prepare` is given, and nothing besides: so the key, a hash of all fields, cannot forget a thing.

    `day` is the date for templates that write one, with no time of day; for others always the same.
    """

    opened: OpenedData
    tokenizer: PreTrainedTokenizerBase
    day: datetime
    chat_template: str
    variables: dict[str, Any]
    loss_on: Literal["assistant", "last", "marked", "all"]
    reasoning: Literal["template", "keep"]
    same_role: Literal["template", "join"]
    max_length: int
    duplicates: Literal["keep", "drop_exact", "drop_near"]
    evaluation_share: float
    seed: int
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: RunConfig, opened: OpenedData, tokenizer: PreTrainedTokenizerBase, day: datetime) -> "DataPlan":
        """Return the plan of a config. The tokenizer is given the template that the config names."""
        data, training = config.data, config.training
        choose_template(tokenizer, data.chat_template)
        return cls(
            opened=opened.for_template(message_keys(tokenizer.chat_template)),
            tokenizer=tokenizer,
            day=template_day(config, day) if "strftime_now" in str(tokenizer.chat_template) else _NO_DAY,
            chat_template=data.chat_template,
            variables=dict(data.template_variables),
            loss_on=training.loss_on,
            reasoning=data.reasoning,
            same_role=data.same_role,
            max_length=training.max_length,
            duplicates=data.duplicates,
            evaluation_share=data.evaluation_share,
            seed=data.seed,
            exclude=tuple(sorted(set(data.exclude))),
        )

    @cached_property
    def key(self) -> str:
        """A hash of all that decides the rows."""
        parts = {field.name: _identity(getattr(self, field.name)) for field in fields(self)}
        text = json.dumps([__version__, _LAYOUT, parts], sort_keys=True)
        return sha256(text.encode()).hexdigest()[:32]

    def pipeline(self) -> RowPipeline:
        """Return the way of a row, for preview and training alike. A context manager."""
        return RowPipeline(
            self.tokenizer,
            loss_on=self.loss_on,
            now=self.day,
            joins=self.same_role == "join",
            keeps=self.reasoning == "keep",
            variables=self.variables,
        )


def rendering_day(run: RunFolder) -> datetime:
    """Return the day for templates that write one: that of the folder's first event, so that a resumed run agrees."""
    first = next(run.events(), None)
    return datetime.combine(datetime.fromtimestamp(first.time) if first else datetime.now(), time())


def template_day(config: RunConfig, began: datetime) -> datetime:
    """Return what templates take for today: as the config says, else the day on which the run began."""
    chosen = config.data.template_date
    return datetime.combine(date.fromisoformat(chosen), time()) if chosen else began


def prompting_of(config: RunConfig, run: RunFolder) -> Prompting:
    """Return how a run's model is asked: with its variables, on the day of its training."""
    return Prompting(config.data.template_variables, template_day(config, rendering_day(run)))


def _identity(value: object) -> Any:
    """Return what a field is, as JSON can hold it. Raises TypeError for a kind of which that is not known."""
    match value:
        case str() | int() | float() | dict():
            return value
        case tuple():
            return [*value]
        case datetime():
            return value.isoformat()
        case OpenedData():
            return [_mixture(value.training), _mixture(value.evaluation) if value.evaluation else None]
        case PreTrainedTokenizerBase():
            return _tokenizer(value)
    raise TypeError(f"what decides rows cannot be told of {type(value).__name__}")


def _mixture(data: DatasetMixture) -> list[Any]:
    return [
        [name, reader.source.model_dump(include=_HOW_ROWS_ARE_READ), *map(_file, reader.files)]
        for name, reader in zip(data.names, data.readers, strict=True)
    ]


def _file(file: DatasetFile) -> list[Any]:
    return [file.path.name, fingerprint_file(file.path).model_dump()]


def _tokenizer(tokenizer: Any) -> list[Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = str(backend.to_str()) if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    return [
        sha256(text.encode()).hexdigest(),
        special,
        str(tokenizer.chat_template),
        bool(tokenizer.split_special_tokens),
        known_stops(tokenizer),
    ]
