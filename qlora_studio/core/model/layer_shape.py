"""The shape of a decoder layer: its linear layers by name, and what else it holds."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["attention_in", "attention_out", "mlp_in", "mlp_out", "other"]


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer of a decoder layer, by the last part of its module's name."""

    name: str
    inputs: int
    outputs: int
    role: Role = "other"
    bias: bool = False

    @property
    def parameters(self) -> int:
        """Weights, without the bias: what is quantized, and what a full fine-tuning would train."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class LayerShape:
    """`count` decoder layers of one kind. `kept` counts norms and the like, `experts` stacked experts and routers."""

    count: int
    linears: tuple[Linear, ...]
    kept: int
    experts: int = 0

    @property
    def quantizable(self) -> int:
        """Weights of the linear layers, of one layer."""
        return sum(linear.parameters for linear in self.linears)

    @property
    def biases(self) -> int:
        """Biases of the linear layers, of one layer; they stay in 16 bit."""
        return sum(linear.outputs for linear in self.linears if linear.bias)
