"""An adapter in PEFT's format, sorted by the base's tensors that it changes; what is no plain update is refused."""

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import regex  # type: ignore[import-untyped]  # transformers brings it; unlike `re`, it can be told to give up
import torch

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.adapter_config import ADAPTER_CONFIG, sound_adapter_config
from qlora_studio.core.words import say
from qlora_studio.engine.merge.adapter_change import AdapterTensor, Change, LowRank
from qlora_studio.engine.merge.parameter_updates import stacked_update, wrapped_parameters
from qlora_studio.engine.merge.safetensors_file import WeightsFolder
from qlora_studio.storage.foreign import read_json
from qlora_studio.storage.models.foreign_code import refuse_foreign_code, without_code

_PREFIX = "base_model.model."
_PART = re.compile(r"(.+)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(?:\.(weight|bias))?")
_LAYER = re.compile(r"\.(\d+)\.")
# What torch.compile, FSDP, checkpointing and DDP put into names; in a raw state dict, peft's name of its adapter.
_WRAPPED = re.compile(r"(?:^module\.|(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)")
_DEFAULT = re.compile(r"((?:^|\.)(?:lora_\w+|modules_to_save|trainable_tokens_delta))\.default(?=\.|$)")
_PICKLES = ("adapter_model.bin", "adapter_model.pt", "pytorch_model.bin")
_PLAIN_NAME = re.compile(r"[\w.\\-]*")  # as `re.escape` writes it, too
_PATTERN_SECONDS = 0.2  # a pattern of a stranger may take for ever on a name
_TOKENS = re.compile(r"(.+?)(?:\.token_adapter)?\.trainable_tokens_delta")
# Settings under which a merge would be something else than W + scale · B A; none of them is made here.
_UNKNOWN_SETTINGS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "megatron_config",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
)
_ONLY_FOR_TRAINING = (".lora_velora_embed",)  # kept beside the adapter, of no use once it is trained
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass
class AdapterDelta:
    """An adapter, sorted by the tensors that it changes. Names are those of the base's own modules."""

    config: dict[str, Any]
    changes: dict[str, Change] = field(default_factory=dict)

    @property
    def keeps_ties(self) -> bool:
        """Whether embedding and head were trained as one."""
        return bool(self.config.get("ensure_weight_tying"))

    def uncovered(self, names: Iterable[str]) -> list[str]:
        """Return the base's tensors in layers beyond the last one that the adapter changes.

        An adapter that changes a projection in every layer from the first on, and stops before the base's last one, was
        trained on a base with fewer layers: it loads everywhere without a word.
        """
        chosen = ("layers_to_transform", "exclude_modules")
        targets = self.config.get("target_modules") or []
        if isinstance(targets, str) or any(self.config.get(key) for key in chosen):
            return []
        changed, stored = _by_kind(self.changes), _by_kind(names)
        # peft writes all-linear of a small model as full names, too: then every kind of layer is changed, in several.
        is_named = any(part.isdecimal() for target in targets for part in target.split("."))
        if is_named and (set(stored) - set(changed) or all(set(layers) == {0} for layers in changed.values())):
            return []
        complete = {kind for kind, layers in changed.items() if set(layers) == set(range(len(layers)))}
        return [
            name
            for kind in sorted(complete)
            for layer, name in sorted(stored.get(kind, {}).items())
            if layer not in changed[kind]
        ]


def load_adapter(
    folder: Path, *, is_transposed: bool = False, models: Callable[[], Iterable[Any]] | None = None
) -> AdapterDelta:
    """Return the adapter in a folder of PEFT's format. `is_transposed` says how the base stores square matrices.

    An adapter on lone parameters, as stacked experts are, needs the `models` that it may be of, on any device.
    Raises StudioError for a kind of adapter that cannot be merged as weights.
    """
    config = read_adapter_config(folder)
    require_plain_update(config)
    delta = AdapterDelta(config)
    parts: dict[str, dict[str, AdapterTensor]] = {}
    places = adapter_weights(folder).places
    for plain, stored in sorted(plain_names(places).items()):
        tensor = AdapterTensor(*places[stored])
        if match := _PART.fullmatch(plain):
            key = match[2] + (".bias" if match[3] == "bias" else "")
            parts.setdefault(match[1], {})[key] = tensor
        elif match := _TOKENS.fullmatch(plain):
            _add_tokens(delta, match[1], tensor)
        elif ".lora_" not in plain:
            # Below trained tokens, a resized embedding is kept too.
            _change(delta, plain.replace(".token_adapter.", ".").replace(".base_layer", "")).replacement = tensor
        elif not plain.endswith(_ONLY_FOR_TRAINING):
            raise refused(say("It holds {plain}, which is of a kind that is not known here.", plain=plain))
    _add_parameters(delta, parts, models)
    for module, tensors in parts.items():
        _add_low_rank(delta, module.replace(".base_layer", ""), tensors, is_transposed)
    return delta


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Return `adapter_config.json`, settings of their kinds. Raises StudioError where there is none, or a wrong one.

    One that asks for foreign code is a wrong one, too.
    """
    refuse_foreign_code(folder)
    try:
        return sound_adapter_config(read_json(folder / ADAPTER_CONFIG), folder.name)
    except FileNotFoundError as error:
        raise StudioError(
            say(
                "{folder} is not an adapter: it has no {adapter_config}.", folder=folder, adapter_config=ADAPTER_CONFIG
            ),
            kind=FailureKind.MODEL_NOT_FOUND,
            advice=say("Name the folder that holds adapter_config.json and adapter_model.safetensors."),
        ) from error


def adapter_weights(folder: Path) -> WeightsFolder:
    """Return the weights of an adapter. Raises StudioError where there are none, or a pickle alone."""
    pickle = next((name for name in _PICKLES if (folder / name).is_file()), None)
    if pickle and not any(folder.glob("*.safetensors")):
        raise StudioError(
            say("{pickle} is a pickle: opening it would run whatever code somebody put into it.", pickle=pickle),
            kind=FailureKind.MODEL_REFUSED,
            advice=say(
                "Ask for adapter_model.safetensors, or let whoever trusts it save it anew: peft writes safetensors."
            ),
        )
    return WeightsFolder(folder)


def plain_names(stored: Iterable[str]) -> dict[str, str]:
    """Return an adapter's names in its file, by those of the base's own modules.

    peft keeps a retrained module of a resized vocabulary three times: `X.weight`, which it loads,
    `X.modules_to_save.weight`, the same, and `X.original_module.weight`, as it was before. Raises StudioError where two
    tensors would be one.
    """
    found: dict[str, str] = {}
    copies: dict[str, str] = {}
    for name in stored:
        plain = _DEFAULT.sub(r"\1", _WRAPPED.sub("", name).removeprefix(_PREFIX))
        if "original_module" in plain.split("."):
            continue
        kept = found
        if "modules_to_save" in plain.split("."):
            plain, kept = plain.replace("modules_to_save.", ""), copies
        if plain in kept:
            raise refused(
                say("It holds {plain} twice, as {kept} and {name}.", plain=plain, kept=kept[plain], name=name)
            )
        kept[plain] = name
    return copies | found


def copy_adapter_config(source: Path, target: Path, base_name: str) -> None:
    """Copy `adapter_config.json` from folder to folder; the base's name replaces whatever path was kept there."""
    config = {**without_code(read_adapter_config(source)), "base_model_name_or_path": base_name}
    (target / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def names_modules(config: dict[str, Any]) -> bool:
    """Whether an adapter says by names what it changes; an expression of a stranger may take for ever on a name."""
    named = [config.get(key) for key in ("target_modules", "exclude_modules", "layers_pattern")]
    named += [*(config.get("rank_pattern") or {}), *(config.get("alpha_pattern") or {})]
    return all(_PLAIN_NAME.fullmatch(item) for item in named if isinstance(item, str))


def require_plain_update(config: dict[str, Any]) -> None:
    """Raise StudioError for an adapter of another kind than LoRA, or one that changes more than its base's weights."""
    if config.get("peft_type") != "LORA":
        raise refused(
            say(
                "It is of the kind {peft_type}; LoRA, rsLoRA and DoRA can be merged.", peft_type=config.get("peft_type")
            )
        )
    for key in _UNKNOWN_SETTINGS:
        if config.get(key):
            raise refused(say("It was made with {key}, which is no plain update of the weights.", key=key))
    how = config.get("init_lora_weights")
    if isinstance(how, str) and how.lower().startswith(_CHANGES_THE_BASE):
        raise refused(
            say("It was started with {how}, which changes the base too; convert it to plain LoRA first.", how=how)
        )


def scaling(config: dict[str, Any], module: str, rank: int) -> float:
    """Return an adapter's scale for a module: alpha / rank, or alpha / √rank, with the patterns that peft knows."""
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if _matches(pattern, module):
            alpha = value
            break
    return float(alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank)


def refused(why: str) -> StudioError:
    """Return the error for an adapter that is no plain update of its base's weights."""
    return StudioError(
        say("This adapter cannot be merged. {why}", why=why),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Use it as an adapter, unmerged."),
    )


def _matches(pattern: str, module: str) -> bool:
    """Whether a pattern is meant for a module, as peft asks it; within a time that `re` cannot promise."""
    try:
        return regex.match(rf"(.*\.)?({pattern})$", module, timeout=_PATTERN_SECONDS) is not None
    except TimeoutError as error:
        raise refused(say("Its alpha_pattern {pattern} would be matched for ever.", pattern=repr(pattern))) from error
    except regex.error as error:
        raise refused(say("Its alpha_pattern {pattern} is no regular expression.", pattern=repr(pattern))) from error


def _by_kind(names: Iterable[str]) -> dict[str, dict[int, str]]:
    """Return tensor names by their name with a star for the layer, and by layer."""
    kinds: dict[str, dict[int, str]] = {}
    for name in names:
        if match := _LAYER.search(name):
            kinds.setdefault(_LAYER.sub(".*.", name, count=1), {})[int(match[1])] = name
    return kinds


def _change(delta: AdapterDelta, name: str) -> Change:
    return delta.changes.setdefault(name, Change())


def _add_parameters(
    delta: AdapterDelta, parts: dict[str, dict[str, AdapterTensor]], models: Callable[[], Iterable[Any]] | None
) -> None:
    """Add the updates of lone parameters, and take them out of what is left to be added."""
    targets = delta.config.get("target_parameters") or []
    if not targets or (models is None and all(name.endswith(".weight") for name in targets)):
        return  # of layers alone
    if models is None:
        raise refused(say("It changes parameters that are no layers of their own, as experts of a mixture."))
    halves = {
        name: (part["lora_A"], part["lora_B"]) for name, part in parts.items() if set(part) == {"lora_A", "lora_B"}
    }
    for name, parameter in wrapped_parameters(models(), targets, halves).items():
        a, b = halves[name]
        del parts[name]
        stack = parameter.shape[0] if len(parameter.shape) == 3 else 1
        scale = scaling(delta.config, parameter.name, a.shape[0] // stack)
        if len(parameter.shape) == 3:
            _change(delta, parameter.name).stacked = stacked_update(parameter, (a, b), scale)
        else:
            _change(delta, parameter.name).low_rank = LowRank(a, b, scale)


def _add_low_rank(delta: AdapterDelta, module: str, tensors: dict[str, AdapterTensor], transposed: bool) -> None:
    is_embedding = "lora_embedding_A" in tensors
    kind = "lora_embedding_" if is_embedding else "lora_"
    if f"{kind}A" not in tensors or f"{kind}B" not in tensors:
        raise refused(say("It holds only half of the update of {module}.", module=module))
    a, b = tensors[f"{kind}A"], tensors[f"{kind}B"]
    if len(a.shape) > 2:
        raise refused(say("{module} is a convolution; linear layers and embeddings can be merged.", module=module))
    if len(a.shape) != 2 or len(b.shape) != 2 or b.shape[1] != a.shape[0]:
        raise refused(
            say(
                "The update of {module} has the shapes {shape} and {other}.",
                module=module,
                shape=a.shape,
                other=b.shape,
            )
        )
    scale = scaling(delta.config, module, a.shape[0])
    magnitude = tensors.get("lora_magnitude_vector")
    if magnitude is None and delta.config.get("use_dora"):
        raise refused(say("It is a DoRA adapter and has no magnitudes for {module}.", module=module))
    low_rank = LowRank(a, b, scale, magnitude, is_embedding or transposed)
    _change(delta, f"{module}.weight").low_rank = low_rank
    if "lora_B.bias" in tensors:
        bias = _change(delta, f"{module}.bias")
        bias.addend, bias.addend_scale = tensors["lora_B.bias"], scale


def _add_tokens(delta: AdapterDelta, module: str, rows: AdapterTensor) -> None:
    wanted = delta.config.get("trainable_token_indices")
    if isinstance(wanted, dict):
        named = [value for key, value in wanted.items() if f".{module}".endswith(f".{key}")]
        wanted = next(iter(named or wanted.values()))  # a tied head is kept too, under its own name
    if not wanted or len(wanted) != rows.shape[0]:
        raise refused(say("It retrained tokens of {module} and does not say which.", module=module))
    change = _change(delta, f"{module}.weight")
    change.row_numbers, change.row_values = torch.tensor(wanted), rows
