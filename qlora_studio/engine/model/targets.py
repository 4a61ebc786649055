"""Which modules get adapters: the linear layers of the language model, never what sees pictures, unless it is named."""

import re
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from qlora_studio.engine.memory.text_part import text_model_name

_Names = list[str]


def targets_of(model: Any, wish: str) -> str | _Names:
    """Return peft's `target_modules` for a wish: `auto`, or names of modules.

    Where the language model stands inside another one, it is a regular expression of what lies within it. A name that
    only the rest has is the rest's.
    """
    names = [] if wish == "auto" else [name.strip() for name in wish.split(",")]
    text = text_model_name(model)
    if not text:
        return names or "all-linear"
    inside = [name for name, _ in model.named_modules() if name.startswith(f"{text}.")]
    if not names:
        names = _linear_names(model, inside)
    here = [name for name in names if any(f".{module}".endswith(f".{name}") for module in inside)]
    patterns = [rf"{re.escape(text)}\.(?:.*\.)?(?:{_any_of(here, text)})"] if here else []
    patterns += [rf"(?:.*\.)?(?:{_any_of(rest)})"] if (rest := [name for name in names if name not in here]) else []
    return "|".join(patterns)


def adapted_beside(model: Any, wish: str) -> _Names:
    """Return the modules outside the language model that a wish names."""
    targets, text = targets_of(model, wish), text_model_name(model)
    if not text or not isinstance(targets, str):
        return []
    names = (name for name, _ in model.named_modules() if not name.startswith(f"{text}."))
    return [name for name in names if re.fullmatch(targets, name)]


def keeps_transposed(model: Any) -> bool:
    """Whether a model's linear layers are stored as (in, out), as GPT-2's are: peft wants to be told."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def targeted(model: Any) -> _Names:
    """Return the last names of the modules that have adapters."""
    return sorted({name.rsplit(".", 1)[-1] for name in adapted_modules(model)})


def adapted_modules(model: Any) -> _Names:
    """Return the full names of the modules that have adapters of low rank."""
    found = (name for name, module in model.named_modules() if hasattr(module, "lora_A"))
    return [name.removeprefix("base_model.model.") for name in found if not name.endswith(".base_layer")]


def _linear_names(model: Any, inside: _Names) -> _Names:
    """Return the last names of the linear layers, but for the head."""
    modules, head = dict(model.named_modules()), model.get_output_embeddings()
    linear = (torch.nn.Linear, Conv1D)
    found = (name for name in inside if isinstance(modules[name], linear) and modules[name] is not head)
    return list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in found))


def _any_of(names: _Names, text: str = "") -> str:
    return "|".join(re.escape(name.removeprefix(f"{text}.")) for name in names)
