"""What several cards that train one run together send each other in a step, and how long that takes. Pure arithmetic.

Gradients go round once a step. Of a base that is shared out, each card receives the others' parts of every layer for
each pass of a batch through the layers: once forward, once backward (Zhao et al. 2023, "PyTorch FSDP", section 3.2).
docs/SCALING.md prints its table from this (`python -m tests.scaling_page`).
"""

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.resident import travelling_bytes
from qlora_studio.core.memory.setup import setup_for
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.run.ranks import sharing

BYTES_A_NUMBER = 4  # gradients are added up in fp32
PCIE = 10e9  # bytes a second between cards of one machine, through its memory: half of what a slot of PCIe 4.0 has


def trained_numbers(config: RunConfig, shape: ModelShape) -> int:
    """Return how many numbers a run trains: those of its adapters."""
    setup = setup_for(config, shape)
    return shape.adapter_parameters(setup.rank, setup.targets, dora=setup.dora, experts=setup.experts)


def sent_bytes(numbers: int, cards: int) -> float:
    """Return what each card sends in a step: each number goes round once to be added up, and once more as the sum."""
    return 2 * (cards - 1) / cards * BYTES_A_NUMBER * numbers


def joining_seconds(numbers: int, cards: int, bytes_a_second: float = PCIE) -> float:
    """Return how long that takes, if nothing else is done meanwhile."""
    return sent_bytes(numbers, cards) / bytes_a_second


def gathering_seconds(config: RunConfig, shape: ModelShape, bytes_a_second: float = PCIE) -> float:
    """Return how long what a card receives of a shared base takes, for one pass of a batch; 0 where it has it whole."""
    return travelling_bytes(shape, sharing(config)) / bytes_a_second
