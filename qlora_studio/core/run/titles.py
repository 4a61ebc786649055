"""What a run's model and data are called where there is little room: without the folders before their names."""

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.words import say

STARTER = "starter"  # the model that comes with the program, as it stands in a run config
OLLAMA = "ollama:"  # what stands before the name of a model that Ollama keeps
STARTER_TITLE = "SmolLM2-135M-Instruct"


def model_title(source: str) -> str:
    """Return a base model's name: the last part of a hub id or path."""
    if source == STARTER:
        return STARTER_TITLE
    return _last_part(source.removeprefix(OLLAMA)) if source else say("No model yet")


def data_title(path: str) -> str:
    """Return a dataset's name: the last part of a hub id or path."""
    return _last_part(path) if path else say("No dataset yet")


def datasets_title(config: RunConfig) -> str:
    """Return the name of a config's dataset, or of the first with how many there are more."""
    more = say(" and {more} more", more=len(config.data.more)) if config.data.more else ""
    return data_title(config.data.path) + more


def _last_part(name: str) -> str:
    return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
