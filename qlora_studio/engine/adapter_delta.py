"""What an adapter does to the tensors of its base: low-rank updates, replaced modules, retrained tokens.

The arithmetic is peft's own, in fp32 and in its order of operations, by rows: a merge gives what `merge_and_unload`
gives.
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from qlora_studio.core.problem import StudioError
from qlora_studio.engine.safetensors_file import WeightsFolder

ADAPTER_CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_PART = re.compile(r"(.+)\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(?:\.(weight|bias))?")
_LAYER = re.compile(r"\.(\d+)\.")
_TOKENS = re.compile(r"(.+?)(?:\.token_adapter)?\.trainable_tokens_delta")
# Settings under which a merge would be something else than W + scale · B A; none of them is made here.
_UNKNOWN_SETTINGS = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "use_bdlora",
    "use_qalora",
)
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class LowRank:
    """scale · B A, fp32. A: (rank, in), B: (out, rank); magnitude (DoRA): (out,) or None.

    `transposed` where the tensor is stored as (in, out): embeddings, and GPT-2's Conv1D.
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float
    magnitude: torch.Tensor | None = None
    transposed: bool = False

    @property
    def needs_whole(self) -> bool:
        """Whether rows cannot be merged one block after another: DoRA's norm runs over all of them."""
        return self.magnitude is not None and self.transposed

    @property
    def shape(self) -> tuple[int, int]:
        """Of the tensor as stored."""
        out, inside = self.b.shape[0], self.a.shape[1]
        return (inside, out) if self.transposed else (out, inside)

    def apply(self, rows: torch.Tensor, start: int) -> torch.Tensor:
        """Return rows start.. of the tensor, fp32, with the update. `rows` is used up."""
        stop = start + rows.shape[0]
        delta = (self.b @ self.a[:, start:stop]).T if self.transposed else self.b[start:stop] @ self.a
        merged = rows.add_(delta if self.scale == 1.0 else delta.mul_(self.scale))
        if self.magnitude is None:
            return merged
        if self.transposed:
            return (self.magnitude / torch.linalg.norm(merged.T, dim=1)).view(1, -1) * merged
        return (self.magnitude[start:stop] / torch.linalg.norm(merged, dim=1)).view(-1, 1) * merged


@dataclass
class Change:
    """Everything that happens to one tensor, in this order: replaced, updated, shifted, single rows replaced."""

    replacement: torch.Tensor | None = None
    low_rank: LowRank | None = None
    addend: torch.Tensor | None = None
    row_numbers: torch.Tensor | None = None
    row_values: torch.Tensor | None = None

    def apply(self, rows: torch.Tensor, start: int) -> torch.Tensor:
        """Return rows start.. of the tensor, fp32, after the change. `rows` is used up."""
        if self.replacement is not None:
            rows = self.replacement[start : start + rows.shape[0]].to(torch.float32, copy=True)
        if self.low_rank is not None:
            rows = self.low_rank.apply(rows, start)
        if self.addend is not None:
            rows = rows + self.addend[start : start + rows.shape[0]]
        if self.row_numbers is not None and self.row_values is not None:
            here = (self.row_numbers >= start) & (self.row_numbers < start + rows.shape[0])
            rows[self.row_numbers[here] - start] = self.row_values[here]
        return rows


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
        if isinstance(self.config.get("target_modules"), str) or any(self.config.get(key) for key in chosen):
            return []
        changed, stored = _by_kind(self.changes), _by_kind(names)
        complete = {kind for kind, layers in changed.items() if set(layers) == set(range(len(layers)))}
        return [
            name
            for kind in sorted(complete)
            for layer, name in sorted(stored.get(kind, {}).items())
            if layer not in changed[kind]
        ]


def load_adapter(folder: Path, *, is_transposed: bool = False) -> AdapterDelta:
    """Return the adapter in a folder of PEFT's format. `is_transposed` says how the base stores square matrices.

    Raises StudioError for a kind of adapter that cannot be merged as weights.
    """
    config = read_adapter_config(folder)
    delta = AdapterDelta(config)
    weights = WeightsFolder(folder)
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name in sorted(weights.places):
        tensor = weights.tensor(name)
        plain = name.removeprefix(_PREFIX)
        if match := _PART.fullmatch(plain):
            key = match[2] + (".bias" if match[3] == "bias" else "")
            parts.setdefault(match[1].replace(".base_layer", ""), {})[key] = tensor.float()
        elif match := _TOKENS.fullmatch(plain):
            _add_tokens(delta, match[1], tensor)
        else:
            _change(delta, plain.replace(".base_layer", "")).replacement = tensor
    for module, tensors in parts.items():
        _add_low_rank(delta, module, tensors, is_transposed or bool(config.get("fan_in_fan_out")))
    return delta


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Return `adapter_config.json`. Raises StudioError where there is none, or one of another kind than LoRA."""
    try:
        config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StudioError(
            f"{folder} is not an adapter: it has no readable {ADAPTER_CONFIG}.",
            kind="model_not_found",
            advice="Name the folder that holds adapter_config.json and adapter_model.safetensors.",
        ) from error
    if config.get("peft_type") != "LORA":
        raise _refused(f"It is of the kind {config.get('peft_type')}; LoRA, rsLoRA and DoRA can be merged.")
    for key in _UNKNOWN_SETTINGS:
        if config.get(key):
            raise _refused(f"It was made with {key}, which is no plain update of the weights.")
    how = config.get("init_lora_weights")
    if isinstance(how, str) and how.lower().startswith(_CHANGES_THE_BASE):
        raise _refused(f"It was started with {how}, which changes the base too; convert it to plain LoRA first.")
    return config


def scaling(config: dict[str, Any], module: str, rank: int) -> float:
    """Return an adapter's scale for a module: alpha / rank, or alpha / √rank, with the patterns that peft knows."""
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
            break
    return float(alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank)


def _by_kind(names: Iterable[str]) -> dict[str, dict[int, str]]:
    """Return tensor names by their name with a star for the layer, and by layer."""
    kinds: dict[str, dict[int, str]] = {}
    for name in names:
        if match := _LAYER.search(name):
            kinds.setdefault(_LAYER.sub(".*.", name, count=1), {})[int(match[1])] = name
    return kinds


def _change(delta: AdapterDelta, name: str) -> Change:
    return delta.changes.setdefault(name, Change())


def _add_low_rank(delta: AdapterDelta, module: str, tensors: dict[str, torch.Tensor], transposed: bool) -> None:
    is_embedding = "lora_embedding_A" in tensors
    kind = "lora_embedding_" if is_embedding else "lora_"
    if f"{kind}A" not in tensors or f"{kind}B" not in tensors:
        raise _refused(f"It holds only half of the update of {module}.")
    a, b = tensors[f"{kind}A"], tensors[f"{kind}B"]
    if a.ndim != 2 or b.ndim != 2 or b.shape[1] != a.shape[0]:
        raise _refused(f"The update of {module} has the shapes {tuple(a.shape)} and {tuple(b.shape)}.")
    scale = scaling(delta.config, module, a.shape[0])
    magnitude = tensors.get("lora_magnitude_vector")
    if magnitude is None and delta.config.get("use_dora"):
        raise _refused(f"It is a DoRA adapter and has no magnitudes for {module}.")
    low_rank = LowRank(a, b, scale, magnitude, is_embedding or transposed)
    _change(delta, f"{module}.weight").low_rank = low_rank
    if "lora_B.bias" in tensors:
        _change(delta, f"{module}.bias").addend = tensors["lora_B.bias"] * scale


def _add_tokens(delta: AdapterDelta, module: str, rows: torch.Tensor) -> None:
    wanted = delta.config.get("trainable_token_indices")
    if isinstance(wanted, dict):
        wanted = next((value for key, value in wanted.items() if f".{module}".endswith(f".{key}")), None)
    if not wanted or len(wanted) != rows.shape[0]:
        raise _refused(f"It retrained tokens of {module} and does not say which.")
    change = _change(delta, f"{module}.weight")
    change.row_numbers, change.row_values = torch.tensor(wanted), rows.float()


def _refused(why: str) -> StudioError:
    return StudioError(
        f"This adapter cannot be merged. {why}", kind="model_refused", advice="Use it as an adapter, unmerged."
    )
