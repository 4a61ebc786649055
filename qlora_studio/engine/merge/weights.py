"""A base and an adapter as one set of weights that exists nowhere: a tensor is made, by rows, when it is asked for."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.config import text_config
from qlora_studio.core.model.family import nearest_family
from qlora_studio.core.model.stored_quantization import stored_quantization
from qlora_studio.core.words import say
from qlora_studio.engine.memory.architecture import config_of, meta_models
from qlora_studio.engine.merge.adapter_change import Change, Part
from qlora_studio.engine.merge.adapter_delta import AdapterDelta, load_adapter, refused
from qlora_studio.engine.merge.conversion import Block, Made, whole
from qlora_studio.engine.merge.merged_tensor import MergedTensor, finished, fitted, mismatch
from qlora_studio.engine.merge.safetensors_file import CODES, SafetensorsFile, StoredTensor, WeightsFolder
from qlora_studio.engine.merge.stored_names import StoredNames, stored_names
from qlora_studio.storage.models.folder import read_config
from qlora_studio.storage.models.foreign_code import without_code

_BLOCK = 4 << 20  # bytes of a tensor as stored; twice to four times as much while it is merged
_OTHER_HEADS = ("embed_out.weight",)  # GPT-NeoX: in files alone; the model calls it lm_head
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")


class BaseRounding(Protocol):
    """What is done to a base's tensor before the adapter is merged into it; None keeps it."""

    def __call__(self, name: str, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return what the tensor becomes, same shape and dtype."""


class MergedWeights:
    """The result of a merge, tensor by tensor. `shards` follow the base's files."""

    def __init__(
        self,
        base: Path,
        adapter: Path | None,
        *,
        dtype: torch.dtype | None = None,
        rounding: BaseRounding | None = None,
        force: bool = False,
    ) -> None:
        self.config = _base_config(base)
        self.base = WeightsFolder(base)
        self._rounding = rounding
        self._family = nearest_family(str(text_config(self.config).get("model_type")))
        is_transposed = self._family.transposed
        delta = AdapterDelta({})
        if adapter:
            delta = load_adapter(adapter, is_transposed=is_transposed, models=self._models)
        changes = self._with_ties(self._stored_changes(delta), delta)
        self._require_lengths(changes)
        if not force:
            self._require_covered(replace(delta, changes=changes))
        self.shards = {
            file.path.name: [
                self._planned(file, tensor, changes.pop(tensor.name, None), dtype) for tensor in file.tensors
            ]
            for file in self.base.files
        }
        self._add_untied(changes, dtype)

    @property
    def tensors(self) -> dict[str, MergedTensor]:
        """All tensors by name."""
        return {tensor.name: tensor for shard in self.shards.values() for tensor in shard}

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for shard in self.shards.values() for tensor in shard)

    @property
    def vocabulary(self) -> int | None:
        """The embedding's number of rows where the adapter changed it, else None."""
        embedding = next((tensor for name, tensor in self.tensors.items() if name.endswith(_EMBEDDINGS)), None)
        return embedding.rows if embedding is not None and embedding.rows != embedding.source.rows else None

    def rounds(self, tensor: MergedTensor) -> bool:
        """Whether the base's tensor may be rounded before the merge."""
        return self._rounding is not None and len(tensor.shape) in (2, 3)  # stacked experts have three

    def blocks(self, tensor: MergedTensor) -> Iterator[torch.Tensor]:
        """Yield a tensor's rows, merged, in its dtype, a few MiB at a time. Raises StudioError on NaN or overflow."""
        rounded = None
        if self._rounding is not None and self.rounds(tensor):
            rounded = self._rounding(tensor.source.name, self.base.tensor(tensor.source.name))
        step = self._rows_at_once(tensor)
        change = tensor.change.opened() if tensor.change is not None else None
        with tensor.file.path.open("rb") as file:
            for start in range(0, tensor.rows, step):
                stop = min(start + step, tensor.rows)
                if rounded is not None:
                    block = rounded[start:stop]
                elif change is not None and change.replacement is not None:
                    block = torch.empty((stop - start, *tensor.shape[1:]))
                else:
                    block = tensor.file.read_rows(file, tensor.source, start, stop)
                yield finished(tensor, change, block, start)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a whole tensor, merged, in its own dtype."""
        tensor = self.tensors[name]
        blocks = list(self.blocks(tensor))
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)

    def _rows_at_once(self, tensor: MergedTensor) -> int:
        low_rank = tensor.change.low_rank if tensor.change else None
        if tensor.rows == 0 or (low_rank is not None and low_rank.needs_whole):
            return max(1, tensor.rows)
        return max(1, _BLOCK * tensor.rows // max(1, tensor.size))

    def _planned(
        self, file: SafetensorsFile, stored: StoredTensor, change: Change | None, dtype: torch.dtype | None
    ) -> MergedTensor:
        code = CODES[dtype] if dtype is not None and stored.is_floating else stored.dtype
        shape = stored.shape
        if change is not None:
            change, shape = fitted(stored, change)
        return MergedTensor(stored.name, code, shape, file, stored, change)

    def _stored_changes(self, delta: AdapterDelta) -> dict[str, Change]:
        """Return what happens to each tensor in the files."""
        changes: dict[str, Change] = {}
        for name, change in delta.changes.items():
            if made := self._made(name, change):
                for block in made.blocks:
                    _require_divisible(name, change, made, block)
                    changes.setdefault(block.name, Change()).parts.append(Part(block, change))
            else:
                changes[self.stored_name(name)] = change
        return changes

    def _made(self, name: str, change: Change) -> Made | None:
        """Return of what files hold a tensor is made, where that is not simply one of theirs."""
        is_plain = name in self.base.places and not self._is_converted
        conversion = None if is_plain else self._names.converted.get(name)
        if conversion is not None:
            made = conversion.made({item: tensor.shape for item, (_, tensor) in self.base.places.items()})
            if made is None:
                raise refused(
                    say(
                        "It changes {name}, which transformers computes of others in a way that has no way back.",
                        name=name,
                    )
                )
            return made[name]
        if change.stacked is not None:
            stored = self.stored_name(name)
            return whole(stored, self.base.places[stored][1].shape)
        return None

    @cached_property
    def _is_converted(self) -> bool:
        """Whether transformers computes anything of this base's tensors, by its kind of model."""
        kinds = [self.config, text_config(self.config)]
        names = {str(kind.get("model_type")) for kind in kinds} | set(self.config.get("architectures") or ())
        return any(get_checkpoint_conversion_mapping(name) is not None for name in names)

    def stored_name(self, name: str) -> str:
        """Return the base's own name for a tensor of the adapter: files may have more or fewer prefixes than models."""
        if name in self.base.places:
            return name
        if name == "lm_head.weight" or name in _OTHER_HEADS:
            return self._head
        if stored := self._names.stored.get(name):
            return stored
        found = [item for item in self.base.places if item.endswith(f".{name}") or name.endswith(f".{item}")]
        if name.removesuffix(".weight") + ".in_proj_weight" in self.base.places:
            raise refused(
                say(
                    "{name} is a fused attention of torch, which has no such weights.",
                    name=name.removesuffix(".weight"),
                )
            )
        if name.endswith(".bias") and name.removesuffix("bias") + "weight" in self.base.places:
            raise refused(
                say(
                    "It shifts {name}, and that layer of the base has no bias to hold it.",
                    name=name.removesuffix(".bias"),
                )
            )
        if len(found) != 1:
            raise mismatch(say("It changes {name}, which this base does not have.", name=name))
        return found[0]

    def _models(self) -> list[Any]:
        """Return the models that an adapter may be of, without weights; none of a kind that cannot be built."""
        try:
            return meta_models(config_of(self.base.path))
        except (StudioError, ValueError, KeyError, TypeError, AttributeError):
            return []

    @cached_property
    def _names(self) -> StoredNames:
        """What the files call what transformers renames, and computes of what they hold."""
        try:
            return stored_names(config_of(self.base.path), self.base.places)
        except (StudioError, ValueError, KeyError, TypeError, AttributeError):
            return StoredNames()  # of a kind that transformers cannot build: it renames nothing

    @cached_property
    def _head(self) -> str:
        """The head's name in the files, or the one that it would have."""
        wrapped = [name for name in self.base.places if name.endswith(".lm_head.weight")]
        return next((head for head in (*_OTHER_HEADS, *wrapped) if head in self.base.places), "lm_head.weight")

    @property
    def is_tied(self) -> bool:
        """Whether the result's head is its embedding."""
        return self._base_is_tied and bool(self.config.get("tie_word_embeddings", True))

    @property
    def _base_is_tied(self) -> bool:
        if any(head in self.base.places for head in _OTHER_HEADS):
            return False
        if self._head not in self.base.places:
            return True
        inner = text_config(self.config).get("tie_word_embeddings", self._family.tied)
        return bool(self.config.get("tie_word_embeddings", inner))

    def _with_ties(self, changes: dict[str, Change], delta: AdapterDelta) -> dict[str, Change]:
        """Untie embedding and head where the adapter changes one of them alone, or the two apart.

        A tied head is the embedding itself: merged naively, an update meant for one changes both.
        """
        embedding = next((name for name in self.base.places if name.endswith(_EMBEDDINGS)), None)
        if embedding is None or not self._base_is_tied:
            return changes
        touched = {self._head, embedding} & set(changes)
        only_rows = all(changes[name].low_rank is None and changes[name].replacement is None for name in touched)
        if delta.keeps_ties or only_rows:
            shared = changes.pop(self._head, None)
            if self._head in self.base.places and embedding in changes:
                changes[self._head] = changes[embedding]
            elif shared is not None and embedding not in changes:
                changes[embedding] = shared  # stored alike: (vocabulary, hidden)
            return changes
        self.config["tie_word_embeddings"] = False
        if isinstance(inner := self.config.get("text_config"), dict):
            inner["tie_word_embeddings"] = False
        if self._head not in self.base.places:
            changes.setdefault(self._head, Change())
        return changes

    def _add_untied(self, changes: dict[str, Change], dtype: torch.dtype | None) -> None:
        """Add the head that has now become a tensor of its own, right after its embedding."""
        for name, change in changes.items():
            embedding = next((item for item in self.base.places if item.endswith(_EMBEDDINGS)), None)
            if name != self._head or embedding is None:
                raise mismatch(say("It changes {name}, which this base does not have.", name=name))
            file, stored = self.base.places[embedding]
            planned = self._planned(file, stored, change, dtype)
            is_plain = change.low_rank is None and change.replacement is None
            head = replace(planned, name=name, change=None if is_plain else planned.change)
            shard = self.shards[file.path.name]
            shard.insert(1 + [item.name for item in shard].index(embedding), head)

    def _require_lengths(self, changes: dict[str, Change]) -> None:
        """Raise StudioError where a tensor would get another length. Embedding and head may grow, and its bias."""
        grow = (*_EMBEDDINGS, self._head, self._head.removesuffix("weight") + "bias")
        for name, change in changes.items():
            new, (_, old) = change.replacement, self.base.places.get(name, (None, None))
            if new and old and new.shape[:1] != old.shape[:1] and not name.endswith(grow):
                raise mismatch(
                    say(
                        "{name} is {shape} in the base and {other} in the adapter.",
                        name=name,
                        shape=old.shape,
                        other=new.shape,
                    )
                )

    def _require_covered(self, delta: AdapterDelta) -> None:
        names = [tensor.name for tensor in self.base if len(tensor.shape) == 2]
        missing = delta.uncovered(names) if delta.changes else []
        if missing:  # files may hold more than a model has: keys and values of Gemma's layers that share them
            present = set(self._names.stored.values())
            missing = [name for name in missing if not present or name in present]
        if missing:
            raise mismatch(
                say(
                    "It holds nothing for {missing} ({count} such), so the base has other layers.",
                    missing=missing[0],
                    count=len(missing),
                )
            )


def _base_config(folder: Path) -> dict[str, Any]:
    """Return a base's `config.json`. Raises StudioError where it is missing, remote code, or quantized."""
    config = read_config(folder)
    if stored_quantization(config):
        raise StudioError(
            say("The base is quantized; a merge into such weights destroys them."),
            kind=FailureKind.MODEL_REFUSED,
            advice=say("Merge into the original 16-bit weights."),
        )
    return without_code(config)


def _require_divisible(name: str, change: Change, made: Made, block: Block) -> None:
    """Raise StudioError where a change does not fit a tensor in memory, or cannot be made of it by parts."""
    update = change.stacked or change.low_rank or change.replacement or change.addend
    if update is not None and update.shape != made.shape:
        raise mismatch(
            say(
                "{name} is {shape} in the base and {other} in the adapter.",
                name=name,
                shape=made.shape,
                other=update.shape,
            )
        )
    low_rank = change.low_rank
    whole_rows = block.axes[-1] == 1 and len(block.places[-1]) == made.shape[-1]
    if low_rank is not None and low_rank.magnitude is not None and (low_rank.transposed or not whole_rows):
        raise refused(say("It changes the length of the rows of {name}, of which files hold parts of rows.", name=name))
    if change.row_numbers is not None:
        raise refused(say("It retrains rows of {name}, which transformers computes of others.", name=name))
