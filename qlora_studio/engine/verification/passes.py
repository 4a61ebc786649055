"""The models of a verification, each run over the same rows: whole, or layer by layer where that is too large."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qlora_studio.core.errors import StudioError
from qlora_studio.core.words import say
from qlora_studio.engine.context import Channel
from qlora_studio.engine.gguf.reading import load_gguf
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.model.adapted import load_base, make_trainable, release_memory
from qlora_studio.engine.model.adapter import check_base, load_tuned
from qlora_studio.engine.model.base import base_folder
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.model.loading import keep_scale, load_merged, load_plain, load_with_adapter
from qlora_studio.engine.verification.comparison import Batch, Outcome
from qlora_studio.engine.verification.head import Head
from qlora_studio.engine.verification.lane import Lane
from qlora_studio.engine.verification.skeleton import CannotStream, Skeleton, skeleton_of
from qlora_studio.engine.verification.states import StatesStore
from qlora_studio.engine.verification.streamed_adapter import StreamedAdapter, streamed_adapter
from qlora_studio.engine.verification.streaming import AtHead, StreamedModel, leave_at_head
from qlora_studio.engine.verification.subject import Subject
from qlora_studio.engine.verification.way import parameters_of, require_whole
from qlora_studio.storage.runs.export_folder import read_export

_PACKED = 0.75  # bytes a parameter of a base in 4 bit with its scales, and with embeddings and head in 16 bit


@dataclass(frozen=True)
class Pass:
    """A model: how it is loaded whole, how its base is, and the adapter on that, which layers get as they come."""

    name: str
    whole: Callable[[], Any]
    base: Callable[[], Any]
    device: str
    adapter: Callable[[], StreamedAdapter] | None = None
    prepare: Callable[[Any], None] = keep_scale  # what `base` does to the model once its weights are there
    size: int = 0  # bytes that it takes whole

    def skeleton(self) -> Skeleton:
        """Return the base without weights."""
        found = skeleton_of(self.base, device=self.device)
        self.prepare(found.model)
        return found


@dataclass(frozen=True)
class Measured:
    """What a pass gave: states by whether the adapter was on; and what was asked of a model that was loaded whole."""

    outcomes: dict[bool, Outcome]
    asked: Any = None


def as_trained(subject: Subject, channel: Channel) -> Pass:
    """The adapter on the base as training quantized it. The subject has a run."""
    run, config = subject.run, subject.config
    if run is None or config is None:
        raise ValueError("an adapter made elsewhere was trained nobody knows how")
    device = choose_device(config, channel)

    def base() -> Any:
        trained_on = base_folder(config.model.source, config.model.revision, channel)  # not always what is merged into
        check_base(run, subject.adapter, trained_on)
        return load_base(trained_on, config, device, subject.adapter, channel)

    return Pass(
        "trained",
        lambda: load_tuned(run, device, subject.checkpoint, channel)[0],
        base,
        device.name,
        lambda: streamed_adapter(subject.adapter, as_trained=True),
        lambda model: make_trainable(model, device),
        int(parameters_of(subject.base) * (_PACKED if config.quantization.method != "none" else 2)),
    )


def unmerged(base: Path, adapter: Path, *, dtype: torch.dtype, device: str, name: str = "unmerged") -> Pass:
    """An adapter on its 16-bit base."""
    return Pass(
        name,
        lambda: load_with_adapter(base, adapter, dtype=dtype, device=device),
        lambda: load_plain(base, dtype=dtype, device=device),
        device,
        lambda: streamed_adapter(adapter, as_trained=False),
        size=parameters_of(base) * dtype.itemsize,
    )


def exported(subject: Subject, *, dtype: torch.dtype, device: str) -> Pass:
    """What was exported."""
    name = f"export-{read_export(subject.folder).checksum[:16] or subject.folder.name}"
    if not subject.shape.traits.is_merged:
        return unmerged(subject.base, subject.folder, dtype=dtype, device=device, name=name)

    def load() -> Any:
        if subject.shape.traits.is_gguf:
            return load_gguf(subject.gguf, subject.base, dtype=dtype, device=device)
        return load_plain(subject.folder, dtype=dtype, device=device)

    return Pass(name, load, load, device, size=parameters_of(subject.base) * dtype.itemsize)


def merged_nowhere(weights: MergedWeights, name: str, *, dtype: torch.dtype, device: str) -> Pass:
    """A merge that no file holds."""

    def load() -> Any:
        return load_merged(weights, dtype=dtype, device=device)

    return Pass(name, load, load, device, size=weights.size // 2 * dtype.itemsize)


class Passes:
    """Runs models over the same batches, one after another."""

    def __init__(self, batches: Sequence[Batch], channel: Channel, store: StatesStore | None) -> None:
        """With a `store`, models are streamed, and what they made of the batches is kept there."""
        self.batches = batches
        self.channel = channel
        self._store = store
        self._told: set[str] = set()

    @property
    def is_streamed(self) -> bool:
        """Whether models are streamed, where they can be."""
        return self._store is not None

    def run(self, item: Pass, *, flags: Sequence[bool] = (True,), ask: Callable[[Any], Any] | None = None) -> Measured:
        """Run the batches through a model, with its adapter and without it as `flags` say. `ask` is of a whole one."""
        self.channel.raise_if_stopped()
        if self._store is not None:
            try:
                return Measured(self._streamed(item, flags, self._store))
            except _NOT_STREAMED as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                self._go_whole(item, str(error)[:200])
        return self._whole(item, flags, ask)

    def ask(self, item: Pass, question: Callable[[Any], Any]) -> Any:
        """Return what a model is asked for that is loaded whole for this alone; warn, and None, where it cannot."""
        self.channel.raise_if_stopped()
        try:
            return question(item.whole())
        except _NOT_STREAMED as error:
            self.channel.warn(
                "not_asked", say("This model gives no answers of its own: {error}.", error=str(error)[:200])
            )
            return None
        finally:
            release_memory()

    def _go_whole(self, item: Pass, reason: str) -> None:
        """Say, once, why a model is loaded whole. Raises StudioError where it does not fit."""
        release_memory()
        require_whole(item.size, reason)
        if reason not in self._told:
            self._told.add(reason)
            self.channel.warn("not_streamed", say("This model has to be loaded whole: {reason}.", reason=reason))

    def _streamed(self, item: Pass, flags: Sequence[bool], store: StatesStore) -> dict[bool, Outcome]:
        skeleton = item.skeleton()
        model = StreamedModel(skeleton, item.adapter() if item.adapter else None)
        head = Head(skeleton) if model.has_plain_head else Head()
        found = store.finished(item.name)
        if found is None:
            lanes = [Lane(batch.ids, adapted=flag) for flag in flags for batch in self.batches]
            store.go_on(item.name, lanes)

            def progress(done: int, total: int) -> None:
                self.channel.raise_if_stopped()
                self.channel.progress(f"verifying {item.name}", done, total, "layers")

            model.run(lanes, progress, store.keeper(item.name))
            found = store.finish(item.name, [lane.result for lane in lanes])
            del lanes
        release_memory()
        count = len(self.batches)
        return {
            flag: Outcome(found[number * count : (number + 1) * count], _of_logits(head, found))
            for number, flag in enumerate(flags)
        }

    def _whole(self, item: Pass, flags: Sequence[bool], ask: Callable[[Any], Any] | None) -> Measured:
        head = _head_of(item)
        model = item.whole()
        outcomes = {}
        for flag in flags:
            if flag:
                states = _states(model, self.batches, plain=head.is_plain)
            else:
                with model.disable_adapter():
                    states = _states(model, self.batches, plain=head.is_plain)
            outcomes[flag] = Outcome(states, _of_logits(head, states))
        asked = ask(model) if ask else None
        del model
        release_memory()
        self.channel.raise_if_stopped()
        return Measured(outcomes, asked)


_NOT_STREAMED = (CannotStream, RuntimeError, NotImplementedError, AttributeError, TypeError, ValueError, KeyError)


def _head_of(item: Pass) -> Head:
    """Return the head of a model that is loaded whole: of its files where it is a plain one, else of its logits."""
    try:
        skeleton = item.skeleton()
        model = StreamedModel(skeleton, item.adapter() if item.adapter else None)
        return Head(skeleton) if model.has_plain_head else Head()
    except StudioError:
        raise
    except _NOT_STREAMED:
        return Head()


def _of_logits(head: Head, states: Sequence[torch.Tensor]) -> Head:
    return head if head.is_plain else Head(vocabulary=states[0].shape[-1])


def _states(model: Any, batches: Sequence[Batch], *, plain: bool) -> list[torch.Tensor]:
    """Return what goes into a whole model's head, for each batch; or its logits."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    found: list[torch.Tensor] = []
    with torch.inference_mode():
        for batch in batches:
            ids = batch.ids.to(model.device)
            if not plain:
                found.append(model(input_ids=ids, use_cache=False).logits)
                continue
            found.append(_states_before(inner.get_output_embeddings(), model, ids))
    return found


def _states_before(head: nn.Module, model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return what goes into the head, and leave the model there."""
    hook = head.register_forward_pre_hook(leave_at_head)
    try:
        model(input_ids=ids, use_cache=False)
    except AtHead as reached:
        return reached.states
    finally:
        hook.remove()
    raise CannotStream("its head is not asked")
