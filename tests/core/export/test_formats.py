"""The table of export formats: what is offered, what is told of a format that there is not, and how a new one comes."""

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.core.export.disk_need import export_name
from qlora_studio.core.export.formats import (
    EXPORT_KINDS,
    EXPORT_VARIANTS,
    ExportKind,
    all_formats,
    answering_kinds,
    parse_format,
)
from qlora_studio.core.run.job import CHAT_VARIANTS


def test_the_formats_are_offered_with_the_plain_ones_first() -> None:
    assert [item.text for item in all_formats()[:5]] == [
        "safetensors",
        "text_model",
        "adapter",
        "gguf_adapter",
        "gguf:q8_0",
    ]


def test_a_format_that_there_is_not_is_told_with_those_there_are() -> None:
    with pytest.raises(StudioError) as caught:
        parse_format("gguf:q9")
    assert '"gguf:q9" is no export format' in str(caught.value)
    assert "ollama:q8_0 or bf16" in caught.value.advice


def test_every_variant_that_an_export_answers_as_can_be_asked_in_a_chat() -> None:
    answering = {traits.answers_as for traits in EXPORT_KINDS.values()} - {""}
    assert answering == {*EXPORT_VARIANTS} <= {*CHAT_VARIANTS}
    assert answering_kinds("gguf") == ("gguf", "ollama")


def test_a_new_format_arrives_by_its_record_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = ExportKind(title="MLX", purpose="For Macs.", name="model for MLX", is_merged=True, answers_as="merged")
    monkeypatch.setitem(EXPORT_KINDS, "mlx", kind)
    mlx = parse_format("mlx")
    assert mlx in all_formats()
    assert (mlx.title, mlx.help, export_name(mlx), mlx.size(100)) == ("MLX", "For Macs.", "model for MLX", 200)
    assert answering_kinds("merged") == ("safetensors", "text_model", "mlx")
