"""How a base's tensors are called in memory and in its files, by transformers' own rules for loading.

Models that also see pictures were renamed inside the library, and their files were not: `language_model.model.layers`
lies in the file of what is `model.language_model.layers` in memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

from qlora_studio.engine.memory.architecture import meta_models
from qlora_studio.engine.merge.conversion import Conversion


@dataclass
class StoredNames:
    """`stored` maps names in memory to those in the files; `converted`, to how transformers computes what they name."""

    stored: dict[str, str] = field(default_factory=dict)
    converted: dict[str, Conversion] = field(default_factory=dict)


def stored_names(config: Any, names: Iterable[str]) -> StoredNames:
    """Return what the tensors of a base's files, by name, are called in the models of its transformers config."""
    found, names = StoredNames(), sorted(names, key=dot_natural_key)  # as the library itself does: experts in order
    for model in meta_models(config):
        _add_names(found, model, names)
    return found


def _add_names(found: StoredNames, model: Any, names: list[str]) -> None:
    conversions = get_model_conversion_mapping(model)
    renamings = [item for item in conversions if isinstance(item, WeightRenaming)]
    converters = [item for item in conversions if isinstance(item, WeightConverter)]
    rules = {pattern: item for item in converters for pattern in item.source_patterns}
    tensors = model.state_dict()
    prefix = model.base_model_prefix
    computed: dict[str, Conversion] = {}
    for name in names:
        renamed, pattern = rename_source_key(name, renamings, converters, prefix, tensors)
        if renamed not in tensors and name in tensors:  # as the library itself does
            renamed, pattern = rename_source_key(name, [], [], prefix, tensors)
        if pattern is not None:
            conversion = computed.setdefault(renamed, Conversion(model, rules[pattern], renamed, {}))
            conversion.sources.setdefault(pattern, []).append(name)
        elif renamed in tensors:
            found.stored.setdefault(renamed, name)
    for conversion in computed.values():
        for target in conversion.rule.target_patterns:
            found.converted.setdefault(conversion.name_of(target), conversion)
