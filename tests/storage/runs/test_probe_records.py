"""The stored probes of this machine's cards."""

from pathlib import Path

from qlora_studio.core.memory.probe_record import ProbeRecord
from qlora_studio.storage.runs.probe_records import probe_records, remember_probe


def _record(**changes: object) -> ProbeRecord:
    facts = {"card_uuid": "GPU-1", "card": "RTX", "driver": "580", "versions": {"torch": "2.13"}, "context_bytes": 1}
    return ProbeRecord.model_validate(facts | changes)


def test_a_probe_replaces_the_one_of_the_same_card_driver_and_versions(studio_home: Path) -> None:
    remember_probe(_record())
    remember_probe(_record(driver="590"))
    remember_probe(_record(context_bytes=2))
    assert [(record.driver, record.context_bytes) for record in probe_records()] == [("590", 1), ("580", 2)]


def test_a_broken_file_is_no_probe_and_is_replaced_by_the_next(studio_home: Path) -> None:
    remember_probe(_record())
    (file,) = studio_home.rglob("probes.json")
    file.write_text("[{")
    assert probe_records() == ()
    remember_probe(_record())
    assert probe_records() == (_record(),)
