"""What a real step on a card taught about it, for later estimates on the same card. Sizes are bytes."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from qlora_studio.core.bounds import Amount, Moment
from qlora_studio.core.run.events import Probed

_LARGEST_RESIDUAL = 0.05


class ProbeRecord(BaseModel):
    """A card by its UUID and driver, the libraries by version, and what was measured there.

    `context_bytes` is what the process holds outside of torch's pool, `residual_share` by how much more torch reserved
    than was estimated, as a share of it: between -5 % and 5 %, since more than that is an error to be found, not used.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    card_uuid: str
    card: str
    driver: str
    versions: dict[str, str]
    context_bytes: Amount
    residual_share: Annotated[float, Field(ge=-_LARGEST_RESIDUAL, le=_LARGEST_RESIDUAL)] = 0.0
    time: Moment = 0.0

    @property
    def key(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """What a later record must share to replace this one."""
        return self.card_uuid, self.driver, tuple(sorted(self.versions.items()))


def record_of(probed: Probed, estimated_reserved_bytes: int) -> ProbeRecord | None:
    """Return what a probe taught; None where the driver did not tell what the process holds."""
    if not probed.card_uuid or not probed.context_bytes:
        return None
    residual = probed.reserved_bytes / estimated_reserved_bytes - 1 if estimated_reserved_bytes else 0.0
    return ProbeRecord(
        card_uuid=probed.card_uuid,
        card=probed.card,
        driver=probed.driver,
        versions=probed.versions,
        context_bytes=probed.context_bytes,
        residual_share=max(-_LARGEST_RESIDUAL, min(_LARGEST_RESIDUAL, residual)),
        time=probed.time,
    )


def newest_for(records: Sequence[ProbeRecord], uuid: str, driver: str | None) -> ProbeRecord | None:
    """Return the newest record of a card under its driver of now; another driver's context is another size."""
    found = [record for record in records if record.card_uuid == uuid and driver in (None, "", record.driver)]
    return max(found, key=lambda record: record.time, default=None)
