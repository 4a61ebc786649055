"""Models from folders: every weight that a model has is in its files, in the size that its config says.

Plain, merged in memory or with an adapter: those that a verification compares, one at a time in memory.
"""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.model.stored_quantization import stored_quantization
from qlora_studio.core.words import say
from qlora_studio.engine.memory.architecture import auto_class, config_of, meta_model
from qlora_studio.engine.memory.load_failure import load_failure, told
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.storage.models.folder import folder_tensors, held, read_config
from qlora_studio.storage.models.quantized_base import require_weights_of

_CAUSE = re.compile(r"^[\w.]*(?:Error|Exception): .+", re.MULTILINE)


def from_files(kind: Any, folder: Path, **settings: Any) -> Any:
    """Return the model of a class of transformers from a folder. Raises StudioError where weights are missing there.

    The library gives these random numbers, and takes what it quantizes in whatever size a file has it.
    """
    _require_held(folder)
    with told(partial(load_failure, folder)), cause_told():
        model, found = kind.from_pretrained(
            folder,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            **settings,
        )
    if missing := sorted(found["missing_keys"]):
        count = f" ({len(missing)} such)" if len(missing) > 1 else ""
        raise _incomplete(
            folder,
            say(
                "none of its files ({files}) holds {missing}{count}",
                files=_files(folder),
                missing=missing[0],
                count=count,
            ),
        )
    for name, stored, wanted in _sizes_of_quantized(model):
        if stored != wanted:
            raise _incomplete(
                folder,
                say(
                    "{name} is {stored} in its files, and {wanted} by its config.json",
                    name=name,
                    stored=stored,
                    wanted=wanted,
                ),
            )
    return model


def _require_held(folder: Path) -> None:
    """Raise StudioError where room would be made for far more than a folder's files hold."""
    config = read_config(folder)
    if stored_quantization(config):
        return
    shape = shape_from_config(config)
    parameters = shape.parameters if shape.exact else meta_model(config_of(folder)).num_parameters()
    require_weights_of(parameters, held(folder_tensors(folder)), folder.name)


@contextmanager
def cause_told() -> Iterator[None]:
    """Raise what kept transformers from putting a weight in place: a card without memory, or a lost one.

    WORKAROUND transformers 5.23: it goes on with the other weights, and says in the end only that there was something;
    what it was stands in the report that it logs, and in what it made that of.
    """
    try:
        yield
    except RuntimeError as error:
        for frame, _line in traceback.walk_tb(error.__traceback__):
            met = getattr(frame.f_locals.get("loading_info"), "conversion_errors", None) or {}
            causes = [cause for text in met.values() for cause in _CAUSE.findall(text)]
            if causes:
                raise RuntimeError(causes[0]) from error
        raise


def load_plain(folder: Path, *, dtype: torch.dtype, device: str) -> Any:
    """Return the model in a folder, unquantized."""
    model = from_files(auto_class(config_of(folder)), folder, dtype=dtype)
    keep_scale(model)
    return model.to(device).eval()


def keep_scale(model: Any) -> None:
    """Leave a model's weights as they are in its files.

    RWKV halves some of them for inference in fp16, in place: those in 4 bit too, and without what an adapter adds.
    """
    if hasattr(model.config, "rescale_every"):
        model.config.rescale_every = 0


def load_with_adapter(base: Path, adapter: Path, *, dtype: torch.dtype, device: str) -> Any:
    """Return a base with its adapter, unmerged; the adapter stays in fp32."""
    from qlora_studio.engine.model.saved_adapter import with_saved_adapter

    return with_saved_adapter(load_plain(base, dtype=dtype, device=device), adapter).eval()


def load_merged(weights: MergedWeights, *, dtype: torch.dtype, device: str) -> Any:
    """Return merged weights as a model, without a file between."""
    config = config_of(weights.base.path)
    for part in (config, config.get_text_config()):
        part.tie_word_embeddings = weights.is_tied
    if weights.vocabulary is not None:
        config.get_text_config().vocab_size = weights.vocabulary
    outline = meta_model(config)
    with told(partial(load_failure, weights.base.path)), cause_told():
        model: Any = type(outline).from_pretrained(
            None,
            config=outline.config,
            state_dict={name: _Source(weights, name) for name in weights.tensors},
            dtype=dtype,
            trust_remote_code=False,
        )
    return model.to(device).eval()


class _Source:
    """A tensor of merged weights, as transformers asks a file for one. Rows are of embeddings and heads alone."""

    def __init__(self, weights: MergedWeights, name: str) -> None:
        self._weights, self._name = weights, name

    def get_shape(self) -> list[int]:
        """Its shape."""
        return list(self._weights.tensors[self._name].shape)

    def __getitem__(self, rows: Any) -> torch.Tensor:
        tensor = self._weights.tensors[self._name]
        if not isinstance(rows, slice) or tensor.change is not None:
            return self._weights.tensor(self._name)[rows]
        with tensor.file.path.open("rb") as file:
            return tensor.file.read_rows(file, tensor.source, *rows.indices(tensor.rows)[:2])


def _sizes_of_quantized(model: Any) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Yield the name of each 4-bit weight of a linear layer, its size in the files, and by the config."""
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit) and (state := getattr(module.weight, "quant_state", None)) is not None:
            yield f"{name}.weight", tuple(state.shape), (module.out_features, module.in_features)


def _files(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"


def _incomplete(folder: Path, why: str) -> StudioError:
    return StudioError(
        say("The model in {name} cannot be loaded: {why}.", name=folder.name, why=why),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Take config.json and all files of weights from one place."),
    )
