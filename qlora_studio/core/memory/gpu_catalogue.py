"""Graphics cards that people own or rent, for judging a run before, or without, the card itself.

Totals are as nvidia-smi shows them, which is less than the name says; `compute` is NVIDIA's compute capability.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from qlora_studio.core.quantity import MIB

WORKSPACE_BYTES, _HOPPER_WORKSPACE_BYTES = 8_519_680, 33_554_432  # cuBLAS, one a thread


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """A card. `idle_bytes` is what a desktop usually takes of it."""

    name: str
    total_bytes: int
    compute: float
    idle_bytes: int = 0

    @property
    def bf16(self) -> bool:
        """Whether the card computes in bf16 by itself."""
        return self.compute >= 8.0

    @property
    def workspace_bytes(self) -> int:
        """The size of one of cuBLAS's two workspaces."""
        return _HOPPER_WORKSPACE_BYTES if self.compute == 9.0 else WORKSPACE_BYTES

    @property
    def free_bytes(self) -> int:
        """What is usually free for a run."""
        return self.total_bytes - self.idle_bytes


def _card(name: str, mib: int, compute: float, idle_mib: int = 0) -> GpuSpec:
    return GpuSpec(name, mib * MIB, compute, idle_mib * MIB)


_DESKTOP = 400  # MiB

GPUS: tuple[GpuSpec, ...] = (
    _card("GTX 1080 Ti 11 GB", 11264, 6.1, _DESKTOP),
    _card("RTX 2060 6 GB", 6144, 7.5, _DESKTOP),
    _card("RTX 2070 8 GB", 8192, 7.5, _DESKTOP),
    _card("RTX 2080 Ti 11 GB", 11264, 7.5, _DESKTOP),
    _card("RTX 3050 8 GB", 8192, 8.6, _DESKTOP),
    _card("RTX 3060 12 GB", 12288, 8.6, _DESKTOP),
    _card("RTX 3060 Ti 8 GB", 8192, 8.6, _DESKTOP),
    _card("RTX 3070 8 GB", 8192, 8.6, _DESKTOP),
    _card("RTX 3080 10 GB", 10240, 8.6, _DESKTOP),
    _card("RTX 3080 12 GB", 12288, 8.6, _DESKTOP),
    _card("RTX 3090 24 GB", 24576, 8.6, _DESKTOP),
    _card("RTX 4060 8 GB", 8188, 8.9, _DESKTOP),
    _card("RTX 4060 Ti 16 GB", 16380, 8.9, _DESKTOP),
    _card("RTX 4070 12 GB", 12282, 8.9, _DESKTOP),
    _card("RTX 4070 Ti Super 16 GB", 16376, 8.9, _DESKTOP),
    _card("RTX 4080 16 GB", 16376, 8.9, _DESKTOP),
    _card("RTX 4090 24 GB", 24564, 8.9, _DESKTOP),
    _card("RTX 5060 Ti 16 GB", 16311, 12.0, _DESKTOP),
    _card("RTX 5070 12 GB", 12227, 12.0, _DESKTOP),
    _card("RTX 5070 Ti 16 GB", 16303, 12.0, _DESKTOP),
    _card("RTX 5080 16 GB", 16303, 12.0, _DESKTOP),
    _card("RTX 5090 32 GB", 32607, 12.0, _DESKTOP),
    _card("RTX A4000 16 GB", 16376, 8.6, _DESKTOP),
    _card("RTX A5000 24 GB", 24564, 8.6, _DESKTOP),
    _card("RTX A6000 48 GB", 49140, 8.6, _DESKTOP),
    _card("RTX 6000 Ada 48 GB", 49140, 8.9, _DESKTOP),
    _card("RTX PRO 6000 96 GB", 97887, 12.0, _DESKTOP),
    _card("Tesla P100 16 GB", 16384, 6.0),
    _card("Tesla T4 16 GB", 15360, 7.5),
    _card("Tesla V100 16 GB", 16384, 7.0),
    _card("Tesla V100 32 GB", 32768, 7.0),
    _card("L4 24 GB", 23034, 8.9),
    _card("A10G 24 GB", 23028, 8.6),
    _card("L40S 48 GB", 46068, 8.9),
    _card("A100 40 GB", 40960, 8.0),
    _card("A100 80 GB", 81920, 8.0),
    _card("H100 80 GB", 81559, 9.0),
    _card("H200 141 GB", 143771, 9.0),
    _card("B200 180 GB", 183359, 10.0),
)


def find_gpu(name: str) -> GpuSpec | None:
    """Return the card of this name, as people or NVIDIA's driver write it; the smallest where the size is left open."""
    wanted = _plain(name)
    if not wanted:
        return None
    tests: tuple[Callable[[GpuSpec], bool], ...] = (
        lambda gpu: _plain(gpu.name) == wanted,
        lambda gpu: _plain(_model(gpu)) == wanted,
        lambda gpu: all(part in wanted for part in (_plain(_model(gpu)), _plain(gpu.name.split()[-2]))),
        lambda gpu: _plain(_model(gpu)) in wanted,
        lambda gpu: wanted in _plain(gpu.name),
    )
    for test in tests:
        if found := [gpu for gpu in GPUS if test(gpu)]:
            longest = max(len(_model(gpu)) for gpu in found)
            return min((gpu for gpu in found if len(_model(gpu)) == longest), key=lambda gpu: gpu.total_bytes)
    return None


def _model(gpu: GpuSpec) -> str:
    """Return a card's name without its size."""
    return gpu.name.rsplit(" ", 2)[0]


def _plain(name: str) -> str:
    text = name.lower().replace("nvidia", "").replace("geforce", "").replace("tesla", "")
    return "".join(character for character in text if character.isalnum())


def is_built_for(capability: Sequence[int], kernels: Iterable[str]) -> bool:
    """Whether a build with these kernels (`sm_86`, `compute_90`) runs on a card of this compute capability.

    Kernels of a major version run on its later minor ones; PTX of an older one can be compiled for a newer card.
    """
    major, minor = capability
    names = [name.partition("_") for name in kernels]
    numbers = [(kind, int("".join(filter(str.isdigit, digits)) or 0)) for kind, _, digits in names]
    same_major = any(kind == "sm" and n // 10 == major and n % 10 <= minor for kind, n in numbers)
    return same_major or any(kind == "compute" and n <= major * 10 + minor for kind, n in numbers) or not names
