"""The language model inside one that also sees or hears, and what beside it takes no part in training on text.

Towers and projectors work on pictures and sounds alone: without them every number of a text is what it was. They are
left out before anything is loaded, so that they take no memory.
"""

import re
from collections.abc import Iterable
from typing import Any


def text_model_name(model: Any) -> str:
    """Return the name of the language model inside one that also sees or hears; nothing where there is nothing else."""
    if model.config.get_text_config() is model.config:
        return ""
    inner = model.get_decoder()
    return next((name for name, module in model.named_modules() if module is inner), "")


def unused_parts(model: Any, used: Iterable[str] = ()) -> list[str]:
    """Return the largest modules with weights that a text never comes through, but for those around a `used` one."""
    text = text_model_name(model)
    if not text:
        return []
    parents, last = text.split("."), model.get_output_embeddings()
    prefixes = [".".join(parents[:depth]) for depth in range(len(parents))]
    kept = [text, *used, *(name for name, module in model.named_modules() if module is last)]
    children = (
        (f"{prefix}.{own}".lstrip("."), module)
        for prefix in prefixes
        for own, module in model.get_submodule(prefix).named_children()
    )
    return [
        name
        for name, module in children
        if any(True for _ in module.parameters()) and not any(f"{item}.".startswith(f"{name}.") for item in kept)
    ]


def remove_parts(model: Any, names: Iterable[str]) -> Any:
    """Take modules out of a model, and return it. Whoever asks for one finds None, as in models without pictures."""
    for name in names:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, None)
    return model


def without_parts(kind: Any, names: list[str]) -> Any:
    """Return a class of transformers whose models lack some modules from the start: nothing is loaded for them."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        kind.__init__(self, *args, **kwargs)
        remove_parts(self, names)

    passed_over = [*(kind._keys_to_ignore_on_load_unexpected or ()), *(rf"^{re.escape(name)}\." for name in names)]
    members = {"__init__": __init__, "__module__": kind.__module__, "_keys_to_ignore_on_load_unexpected": passed_over}
    return type(kind.__name__, (kind,), members)
