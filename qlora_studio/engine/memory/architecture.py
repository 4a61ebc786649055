"""Which class of transformers a config means, wherever a model is loaded or built: one answer for all.

Most language models have an entry among the causal ones. Of models that also see pictures some do, some are found
there as their text part alone (Qwen3.5), and some have no entry at all (Mistral 3): their own class is then taken.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from qlora_studio.engine.memory.load_failure import config_failure, told
from qlora_studio.storage.models.folder import read_config

_AUTO_CLASSES: tuple[Any, ...] = (AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM)


def config_of(folder: Path) -> Any:
    """Return transformers' config of a model's folder. Raises StudioError where it takes what stands there for none."""
    read_config(folder)
    with told(partial(config_failure, folder)):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def auto_class(config: Any) -> Any:
    """Return the auto class that knows a transformers config; the one for causal models where none does."""
    kind = type(config)
    return next((auto for auto in _AUTO_CLASSES if kind in auto._model_mapping), AutoModelForCausalLM)


def knows_sdpa(config: Any) -> bool:
    """Whether a language model's class was taught torch's own attention; some were not, and some have none."""
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return kind is None or bool(kind._supports_sdpa)


def attention_of_text(config: Any, attention: str) -> str | dict[str, str]:
    """Return what transformers is to be told of the attention to use: the rest of a model that also sees keeps its own.

    Not everything that sees or hears knows what a language model does.
    """
    text = next((name for name in config.sub_configs if getattr(config, name) is config.get_text_config()), "")
    return {"": attention, text: attention} if text else attention


def meta_model(config: Any, **settings: Any) -> Any:
    """Return the model of a transformers config on meta tensors: its modules and names, and not one weight.

    Raises StudioError where there is none of such a config.
    """
    with told(partial(config_failure, Path(config.name_or_path))), torch.device("meta"):
        return auto_class(config).from_config(config, trust_remote_code=False, **settings)


def meta_models(config: Any) -> list[Any]:
    """Return the model that is trained here, and the one of its architecture's own name where that is another.

    An adapter may be of either: `model.layers` in the text part alone, `model.language_model.layers` in the whole.
    """
    trained = meta_model(config)
    own = getattr(transformers, next(iter(config.architectures or ()), ""), None)
    if own is None or own is type(trained) or getattr(own, "config_class", None) is not type(config):
        return [trained]
    with torch.device("meta"):
        return [trained, own._from_config(config)]
