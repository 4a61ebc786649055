"""What a probe teaches: kept by card, driver and versions, and used by later estimates."""

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.estimator import estimate, with_context
from qlora_studio.core.memory.probe_record import ProbeRecord, newest_for, record_of
from qlora_studio.core.quantity import GIB, MIB
from qlora_studio.core.run.events import Probed
from tests.core.memory.qlora_article import article_shapes


def _probed(**changes: object) -> Probed:
    facts: dict[str, object] = {
        "rows": 2, "tokens": 2048, "allocated_bytes": 5 * GIB, "reserved_bytes": 6 * GIB, "seconds": 2.0,
        "process_bytes": 6 * GIB + 500 * MIB, "context_bytes": 380 * MIB, "card": "NVIDIA RTX 4090",
        "card_uuid": "GPU-1", "driver": "580.95", "versions": {"torch": "2.13.0"},
    }  # fmt: skip
    return Probed.model_validate(facts | changes)


def _record(**changes: object) -> ProbeRecord:
    record = record_of(_probed(), 6 * GIB)
    assert record is not None
    return record.model_copy(update=changes)


def test_a_probe_whose_driver_tells_nothing_teaches_nothing() -> None:
    assert record_of(_probed(context_bytes=0), 6 * GIB) is None
    assert record_of(_probed(card_uuid=""), 6 * GIB) is None


@pytest.mark.parametrize(("reserved", "share"), [(6.12, 0.02), (5.88, -0.02), (9.0, 0.05), (3.0, -0.05)])
def test_the_residual_is_a_share_and_never_hides_a_large_error(reserved: float, share: float) -> None:
    record = record_of(_probed(reserved_bytes=int(reserved * GIB)), 6 * GIB)
    assert record is not None
    assert record.residual_share == pytest.approx(share, abs=1e-3)


def test_a_record_holds_for_its_card_and_driver_alone() -> None:
    old, new = _record(time=1.0), _record(time=2.0, context_bytes=400 * MIB)
    assert newest_for((new, old), "GPU-1", "580.95") == new
    assert newest_for((new, old), "GPU-2", "580.95") is None
    assert newest_for((new, old), "GPU-1", "590.10") is None
    assert newest_for((new, old), "GPU-1", None) == new


def test_an_estimate_takes_context_and_residual_from_the_probe_and_says_so() -> None:
    shape = article_shapes()["7B"]
    plain = estimate(RunConfig(), shape)
    probed = estimate(RunConfig(), shape, probe=_record(residual_share=0.03))
    assert probed.level == "probed"
    assert probed.context_bytes == 380 * MIB
    assert probed.allocated_bytes == plain.allocated_bytes
    assert probed.reserved_bytes == pytest.approx(1.03 * plain.reserved_bytes, rel=1e-6)
    assert probed.total_bytes == probed.reserved_bytes + probed.managed_bytes + probed.context_bytes
    assert sum(component.bytes for component in probed.components) == probed.total_bytes
    assert probed.error_share < plain.error_share


def test_what_is_reserved_is_never_less_than_what_is_allocated() -> None:
    probed = estimate(RunConfig(), article_shapes()["7B"], probe=_record(residual_share=-0.05))
    assert probed.reserved_bytes >= probed.allocated_bytes


def test_without_a_card_there_is_no_context_in_the_estimate() -> None:
    shape = article_shapes()["7B"]
    found = estimate(RunConfig(), shape, context_bytes=0)
    assert "context" not in {component.key for component in found.components}
    assert found.total_bytes == estimate(RunConfig(), shape).total_bytes - 450 * MIB


def test_a_measured_context_takes_the_place_of_the_usual_one() -> None:
    found = estimate(RunConfig(), article_shapes()["7B"])
    measured = with_context(found, 300 * MIB)
    assert measured.total_bytes == found.total_bytes - 150 * MIB
    assert sum(component.bytes for component in measured.components) == measured.total_bytes
