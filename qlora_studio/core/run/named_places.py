"""The settings that name a model, an adapter or data: by a file or folder of a computer, or as the hub calls it.

Whoever takes a run to another folder or computer, or makes it public, goes by these.
"""

from collections.abc import Callable, Iterator

from qlora_studio.core.config.run_config import RunConfig

MODEL, MORE_DATA = "model.source", "data.more"
_ONE_EACH = ("data.path", "data.evaluation_path", MODEL, "quantization.original", "lora.start_from")


def named_places(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield each such setting with what it says, if that is nothing too; MORE_DATA once for each further dataset."""
    yield from ((setting, config.value(setting)) for setting in _ONE_EACH)
    yield from ((MORE_DATA, item.path) for item in config.data.more)


def renamed(config: RunConfig, called: Callable[[str, str], str]) -> RunConfig:
    """Return a config in which each of them says what `called` makes of setting and value, in that order."""
    for setting in _ONE_EACH:
        section, _, field = setting.partition(".")
        changed = getattr(config, section).model_copy(update={field: called(setting, config.value(setting))})
        config = config.model_copy(update={section: changed})
    more = [item.model_copy(update={"path": called(MORE_DATA, item.path)}) for item in config.data.more]
    return config.model_copy(update={"data": config.data.model_copy(update={"more": more})})
