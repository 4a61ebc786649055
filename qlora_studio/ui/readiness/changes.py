"""What one config has otherwise than another, in the words of the form. Pure."""

from dataclasses import dataclass
from typing import Any

from qlora_studio.core.config.run_config import RunConfig, all_settings
from qlora_studio.core.config.setting import SettingInfo
from qlora_studio.core.run.titles import data_title, model_title
from qlora_studio.core.words import say
from qlora_studio.ui.kit.fields import number_text

# Of the file, and of this machine: no draft takes them from another.
_KEPT = ("version", "hardware.gpus", "hardware.sharding")
_TITLES = {"model.source": model_title, "data.path": data_title}
_NOTHING = say("nothing")


@dataclass(frozen=True)
class Change:
    """A setting that differs: its title with what it was and what it becomes, in words."""

    path: str
    title: str
    before: str
    after: str

    @property
    def words(self) -> str:
        """Both values."""
        return f"{self.before} → {self.after}"


def changes(before: RunConfig, after: RunConfig) -> tuple[Change, ...]:
    """Return every setting that differs, in the order of the form."""
    found = []
    for info in all_settings():
        old, new = value_at(before, info.path), value_at(after, info.path)
        if old != new and info.path not in _KEPT:
            found.append(Change(info.path, info.title, _words(info, old), _words(info, new)))
    return tuple(found)


def value_at(config: RunConfig, path: str) -> Any:
    """Return the value of `section.field`, or of `name`."""
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _words(info: SettingInfo, value: Any) -> str:
    if info.path in _TITLES and value:
        return _TITLES[info.path](value)
    if isinstance(value, bool):
        return say("on") if value else say("off")
    if isinstance(value, str):
        return info.choices.get(value, value) or _NOTHING
    if isinstance(value, list | tuple | dict):
        return (", ".join(map(str, value)) if len(value) <= 3 else say("{value} of them", value=len(value))) or _NOTHING
    text = f"{value:,}" if isinstance(value, int) else number_text(value) if isinstance(value, float) else str(value)
    return f"{text} {info.unit}".strip()
