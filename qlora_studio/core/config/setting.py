"""A field of the run config, with everything that a form, a tooltip, `run.toml` and the command line need to agree."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticKnownError

from qlora_studio.core.quantity import number_text


def setting(
    default: Any = ...,
    *,
    title: str,
    help: str,
    unit: str = "",
    advanced: bool = False,
    choices: dict[str, str] | None = None,
    costs: dict[str, str] | None = None,
    **bounds: Any,
) -> Any:
    """Return a pydantic field that carries its title, help, unit and bounds (`ge`, `le`, `gt`, `lt`).

    `choices` gives the words for the values of a Literal; `costs` what choosing one costs, in a sentence.
    `default_factory` replaces `default` where it is mutable.
    """
    extra: dict[str, Any] = {"unit": unit, "advanced": advanced, "choices": choices or {}, "costs": costs or {}}
    if "default_factory" in bounds:
        return Field(title=title, description=help, json_schema_extra=extra, **bounds)
    return Field(default, title=title, description=help, json_schema_extra=extra, **bounds)


def one_of(choices: Callable[[], dict[str, str]]) -> AfterValidator:
    """Return what lets a text be one of a table's names, read from the table when it is asked; for `Annotated`."""
    return AfterValidator(_OneOf(choices))


def either(names: Iterable[str]) -> str:
    """Return `a, b or c`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


@dataclass(frozen=True)
class _OneOf:
    choices: Callable[[], dict[str, str]]

    def __call__(self, value: str) -> str:
        known = self.choices()
        if value not in known:
            raise PydanticKnownError("literal_error", {"expected": either(map(repr, known))})
        return value


@dataclass(frozen=True, kw_only=True)
class SettingInfo:
    """What a form shows of one field. `minimum` and `maximum` are None where there is no bound."""

    section: str
    name: str
    kind: type
    title: str
    help: str
    unit: str
    advanced: bool
    default: Any
    choices: dict[str, str]
    costs: dict[str, str]
    minimum: float | None
    maximum: float | None

    @property
    def path(self) -> str:
        """The field's name in `--set section.field=value`."""
        return f"{self.section}.{self.name}" if self.section else self.name

    def text(self, value: Any) -> str:
        """Return a value of this setting in words, with its unit; empty where it says nothing."""
        words = self.choices.get(str(value), "") or _plain(value)
        return f"{words} {self.unit}" if self.unit and words else words

    def plain_text(self, value: Any) -> str:
        """Return a value as it is typed."""
        return _plain(value)


def settings_of(section: str, model: type[BaseModel]) -> tuple[SettingInfo, ...]:
    """Return the settings of one section of the run config, in the order they were written."""
    return tuple(_info(section, name, field) for name, field in model.model_fields.items())


def _info(section: str, name: str, field: FieldInfo) -> SettingInfo:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    costs: Any = extra.get("costs") or {}
    words: Any = extra.get("choices") or _choices_of_table(field)
    is_choice = get_origin(field.annotation) is Literal
    values = get_args(field.annotation) if is_choice else words
    bounds = {
        key: getattr(item, key) for item in field.metadata for key in ("ge", "gt", "le", "lt") if hasattr(item, key)
    }
    return SettingInfo(
        section=section,
        name=name,
        kind=str if is_choice else (get_origin(field.annotation) or field.annotation or str),
        title=field.title or name,
        help=field.description or "",
        unit=str(extra.get("unit", "")),
        advanced=bool(extra.get("advanced", False)),
        default=field.get_default(call_default_factory=True),
        choices={str(value): words.get(value, str(value)) for value in values},
        costs=costs,
        minimum=bounds.get("ge", bounds.get("gt")),
        maximum=bounds.get("le", bounds.get("lt")),
    )


def _choices_of_table(field: FieldInfo) -> dict[str, str]:
    tables = (item.func for item in field.metadata if isinstance(item, AfterValidator))
    return next((table.choices() for table in tables if isinstance(table, _OneOf)), {})


def _plain(value: Any) -> str:
    """Return a value as people write it: yes or no, 2e-4, the parts of a list one after another."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return number_text(value)
        case list():
            return ", ".join(map(_plain, value))
        case dict():
            return ", ".join(f"{name} = {_plain(item)}" for name, item in value.items())
        case BaseModel():
            return _plain(value.model_dump(exclude_defaults=True))
    return str(value)
