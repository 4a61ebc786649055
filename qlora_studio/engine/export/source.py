"""What an export is made of: a run's base, one of its adapters, and which weights of the base they are merged into."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.words import say
from qlora_studio.engine.context import Channel
from qlora_studio.engine.export.importance import Importance
from qlora_studio.engine.merge.nf4_round_trip import Nf4RoundTrip
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.model.adapter import adapter_folder, check_base, checkpoint_name
from qlora_studio.engine.model.base import base_folder
from qlora_studio.engine.model.original import merge_base
from qlora_studio.storage.models.quantized_base import original_name
from qlora_studio.storage.runs.run_folder import RunFolder, folder_name

BaseWeights = Literal["original", "nf4"]


@dataclass(frozen=True)
class ExportSource:
    """What an export is made from. `weights` says which base the adapter is merged into.

    `importance` is by what few bits are shared out; it is measured once, where a format asks for it.
    """

    run: RunFolder
    config: RunConfig
    base: Path
    adapter: Path
    checkpoint: str
    weights: BaseWeights
    importance: Importance = field(default_factory=Importance)

    def merged(self, dtype: torch.dtype | None = None) -> MergedWeights:
        """Return base and adapter as one, made when asked for."""
        rounding = Nf4RoundTrip(self.base, self.config.quantization) if self.weights == "nf4" else None
        return MergedWeights(self.base, self.adapter, dtype=dtype, rounding=rounding)

    @property
    def name(self) -> str:
        """The run's name as a file's."""
        return folder_name(self.config.name)


def export_source(run: RunFolder, checkpoint: str, weights: BaseWeights, channel: Channel, force: bool) -> ExportSource:
    """Return what an export of a run is made of, once its base is found to be that of training. Raises StudioError."""
    config = run.config()
    adapter = adapter_folder(run, checkpoint)
    base = base_folder(config.model.source, config.model.revision, channel)
    channel.phase(Activity.CHECKING_BASE)
    check_base(run, adapter, base, anew=True, accepted_by=channel if force else None)
    original = merge_base(config.model.source, config.model.revision, config.quantization.original, channel)
    if original != base:
        config = config.with_value(
            "model.source", original_name(base, config.model.source, config.quantization.original)
        )
        base = original
        if weights == "nf4":
            channel.warn(
                "base", say("This run was trained on a base stored in 4 bits: its original is what it is merged into.")
            )
            weights = "original"
    if weights == "nf4" and config.quantization.method == "none":
        channel.warn("base", say("This run was trained on 16-bit weights, so they are what it is merged into."))
        weights = "original"
    return ExportSource(run, config, base, adapter, checkpoint_name(adapter), weights)


def tokenizer_folder(source: ExportSource) -> Path:
    """Return the folder with the tokenizer of training."""
    places = (source.adapter, source.run.adapter_path, source.base)
    return next((place for place in places if (place / "tokenizer_config.json").is_file()), source.base)
