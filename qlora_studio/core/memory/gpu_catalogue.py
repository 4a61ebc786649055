"""Graphics cards that people own or rent, for judging a run before, or without, the card itself.

Totals are as nvidia-smi shows them, which is less than the name says; `compute` is NVIDIA's compute capability. Speeds
are those of NVIDIA's white papers and data sheets: products of matrices in 16 bit with sums in fp32, without sparsity
(GeForce cards have half of what they have with sums in fp16), and memory bandwidth.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from qlora_studio.core.quantity import MIB

WORKSPACE_BYTES, _HOPPER_WORKSPACE_BYTES = 8_519_680, 33_554_432  # cuBLAS, one a thread


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """A card. `idle_bytes` is what a desktop usually takes of it.

    `flops` and `bandwidth` are its peak of 16-bit products and bytes of memory, both a second; 0 is not known.
    """

    name: str
    total_bytes: int
    compute: float
    flops: float = 0.0
    bandwidth: float = 0.0
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


def _card(name: str, mib: int, compute: float, teraflops: float, gigabytes: float, idle_mib: int = 0) -> GpuSpec:
    return GpuSpec(name, mib * MIB, compute, teraflops * 1e12, gigabytes * 1e9, idle_mib * MIB)


_DESKTOP = 400  # MiB

GPUS: tuple[GpuSpec, ...] = (  # name, MiB, capability, TFLOPS, GB/s
    _card("GTX 1080 Ti 11 GB", 11264, 6.1, 0, 484, _DESKTOP),
    _card("RTX 2060 6 GB", 6144, 7.5, 25.8, 336, _DESKTOP),
    _card("RTX 2070 8 GB", 8192, 7.5, 29.9, 448, _DESKTOP),
    _card("RTX 2080 Ti 11 GB", 11264, 7.5, 53.8, 616, _DESKTOP),
    _card("RTX 3050 8 GB", 8192, 8.6, 18.2, 224, _DESKTOP),
    _card("RTX 3060 12 GB", 12288, 8.6, 25.5, 360, _DESKTOP),
    _card("RTX 3060 Ti 8 GB", 8192, 8.6, 32.4, 448, _DESKTOP),
    _card("RTX 3070 8 GB", 8192, 8.6, 40.6, 448, _DESKTOP),
    _card("RTX 3080 10 GB", 10240, 8.6, 59.5, 760, _DESKTOP),
    _card("RTX 3080 12 GB", 12288, 8.6, 61.3, 912, _DESKTOP),
    _card("RTX 3090 24 GB", 24576, 8.6, 71, 936, _DESKTOP),
    _card("RTX 4060 8 GB", 8188, 8.9, 30.2, 272, _DESKTOP),
    _card("RTX 4060 Ti 16 GB", 16380, 8.9, 44.1, 288, _DESKTOP),
    _card("RTX 4070 12 GB", 12282, 8.9, 58.3, 504, _DESKTOP),
    _card("RTX 4070 Ti Super 16 GB", 16376, 8.9, 88.2, 672, _DESKTOP),
    _card("RTX 4080 16 GB", 16376, 8.9, 97.5, 717, _DESKTOP),
    _card("RTX 4090 24 GB", 24564, 8.9, 165.2, 1008, _DESKTOP),
    _card("RTX 5060 Ti 16 GB", 16311, 12.0, 47.4, 448, _DESKTOP),
    _card("RTX 5070 12 GB", 12227, 12.0, 61.7, 672, _DESKTOP),
    _card("RTX 5070 Ti 16 GB", 16303, 12.0, 87.9, 896, _DESKTOP),
    _card("RTX 5080 16 GB", 16303, 12.0, 112.6, 960, _DESKTOP),
    _card("RTX 5090 32 GB", 32607, 12.0, 209.5, 1792, _DESKTOP),
    _card("RTX A4000 16 GB", 16376, 8.6, 76.7, 448, _DESKTOP),
    _card("RTX A5000 24 GB", 24564, 8.6, 111.1, 768, _DESKTOP),
    _card("RTX A6000 48 GB", 49140, 8.6, 154.8, 768, _DESKTOP),
    _card("RTX 6000 Ada 48 GB", 49140, 8.9, 364.2, 960, _DESKTOP),
    _card("RTX PRO 6000 96 GB", 97887, 12.0, 503.8, 1792, _DESKTOP),
    _card("Tesla P100 16 GB", 16384, 6.0, 0, 732),
    _card("Tesla T4 16 GB", 15360, 7.5, 65, 320),
    _card("Tesla V100 16 GB", 16384, 7.0, 125, 900),
    _card("Tesla V100 32 GB", 32768, 7.0, 125, 900),
    _card("L4 24 GB", 23034, 8.9, 121, 300),
    _card("A10G 24 GB", 23028, 8.6, 70, 600),
    _card("L40S 48 GB", 46068, 8.9, 362, 864),
    _card("A100 40 GB", 40960, 8.0, 312, 1555),
    _card("A100 80 GB", 81920, 8.0, 312, 2039),
    _card("H100 80 GB", 81559, 9.0, 989, 3350),
    _card("H200 141 GB", 143771, 9.0, 989, 4800),
    _card("B200 180 GB", 183359, 10.0, 2250, 8000),
)


# What a driver's name may say beyond model and size: a laptop's card, a Super or a PCIe one has another speed
_AS_FAST = {
    "A100": ("sxm4", "pcie"),
    "H100": ("hbm3", "sxm5"),
    "Tesla V100": ("sxm2",),
    "RTX 6000 Ada": ("generation",),
    "RTX PRO 6000": ("blackwellworkstationedition", "blackwellserveredition"),
}


def find_gpu(name: str) -> GpuSpec | None:
    """Return the card of this name, as people or NVIDIA's driver write it; the smallest where the size is left open.

    A relative of a card in the catalogue is taken for it, such as a laptop's: its speed is not known then.
    """
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
            gpu = min((gpu for gpu in found if len(_model(gpu)) == longest), key=lambda gpu: gpu.total_bytes)
            return gpu if _is_as_fast(gpu, wanted) else replace(gpu, flops=0.0, bandwidth=0.0)
    return None


def _is_as_fast(gpu: GpuSpec, wanted: str) -> bool:
    """Whether a name is a card's own: its model, or the end of that, and beyond it nothing that makes it another."""
    model, size = _plain(_model(gpu)), _plain(gpu.name.split()[-2]) + "gb"
    same = {
        model + first + second for word in _AS_FAST.get(_model(gpu), ("",)) for first, second in _orders(word, size)
    }
    return wanted in same | {model, model + size} or model.endswith(wanted)


def _orders(word: str, size: str) -> tuple[tuple[str, str], ...]:
    return (word, ""), (word, size), (size, word)


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
