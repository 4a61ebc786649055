"""The numbers of each step that are plotted, each in one record. Tabs, legend and table follow from it."""

from dataclasses import dataclass

from qlora_studio.core.quantity import GIB
from qlora_studio.core.words import say


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number of each step: `field` is its name in StepDone, `rather` one shown in its place where it is ever told.

    `color` is one of the theme's, `scale` divides the values, `smooth` draws a moving average. In the table it stands
    under `column`. Of what is `positive`, 0 says that it was not told. A `loss` has the held-out curve beside it,
    spikes, checkpoints, and a logarithmic scale.
    """

    field: str
    title: str
    color: str
    column: str
    rather: str = ""
    unit: str = ""
    scale: float = 1.0
    smooth: bool = True
    positive: bool = False
    loss: bool = False


METRICS: dict[str, Metric] = {
    item.field: item
    for item in (
        Metric(field="loss", title=say("Loss"), color="weights", column=say("train loss"), loss=True),
        Metric(
            field="learning_rate",
            title=say("Learning rate"),
            color="optimizer",
            column=say("learning rate"),
            smooth=False,
        ),
        Metric(field="gradient_norm", title=say("Gradient norm"), color="activations", column=say("gradient norm")),
        Metric(
            field="tokens_per_second",
            title=say("Throughput"),
            color="other",
            column=say("tokens/s"),
            unit=say("tokens/s"),
            positive=True,
        ),
        Metric(
            field="process_bytes",
            rather="allocated_bytes",
            title=say("Memory"),
            color="context",
            column=say("memory (GiB)"),
            unit=say("GiB"),
            scale=float(GIB),
            smooth=False,
            positive=True,
        ),
    )
}


def positive_fields() -> frozenset[str]:
    """Return the fields of StepDone whose 0 says that they were not told."""
    return frozenset(name for item in METRICS.values() if item.positive for name in (item.field, item.rather) if name)


def step_fields() -> tuple[str, ...]:
    """Return the fields of StepDone that are kept as series."""
    return tuple(name for item in METRICS.values() for name in (item.field, item.rather) if name)
