"""Every format that is offered is written by something."""

from qlora_studio.core.export.formats import EXPORT_KINDS
from qlora_studio.engine.export.export import WRITERS


def test_every_kind_of_export_has_its_writer() -> None:
    assert set(WRITERS) == set(EXPORT_KINDS)
