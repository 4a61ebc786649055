"""The base as the adapter saw it in training: 4 bits and back."""

from pathlib import Path

import torch

from qlora_studio.core.run.run_config import QuantizationSection
from qlora_studio.engine.memory.architecture import config_of, meta_model
from qlora_studio.engine.merge.safetensors_file import WeightsFolder
from qlora_studio.engine.merge.stored_names import stored_names


class Nf4RoundTrip:
    """Rounds what training quantizes: every linear layer but the head. Others are kept."""

    def __init__(self, base: Path, quantization: QuantizationSection) -> None:
        self._names = quantized_weights(base)
        self._method = quantization.method
        self._double = quantization.double

    def __call__(self, name: str, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the tensor, (out, in), after the round trip in its own dtype."""
        if self._method == "none" or name not in self._names:
            return None
        import bitsandbytes.functional as bnb

        device = "cuda" if torch.cuda.is_available() else "cpu"
        packed, state = bnb.quantize_4bit(
            tensor.to(device).contiguous(),
            blocksize=64,
            compress_statistics=self._double,
            quant_type=self._method,
        )
        rounded: torch.Tensor = bnb.dequantize_4bit(packed, state)
        return rounded.to(device="cpu", dtype=tensor.dtype).reshape(tensor.shape)


def quantized_weights(base: Path) -> set[str]:
    """Return the names, in the base's files, of the weights that are stored in 4 bits in training."""
    config = config_of(base)
    model = meta_model(config)
    head = model.get_output_embeddings()
    stored = stored_names(config, WeightsFolder(base).places).stored
    return {
        stored.get(f"{name}.weight", f"{name}.weight")
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
