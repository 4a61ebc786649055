"""The Model page says which models other programs keep here, and what a run on each takes, once somebody asks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.fit import FitVerdict
from qlora_studio.storage.models.local_models import LocalModel
from qlora_studio.ui.model.local import LocalModels
from qlora_studio.ui.model.local_view import LocalLine, local_places, local_title
from qlora_studio.ui.model.local_wiring import LocalWiring

WaitUntil = Callable[[Callable[[], object]], None]
SMALL = LocalModel("llama3.2:3b", "Ollama", "ollama:llama3.2:3b", 2 << 30)
OTHER = LocalModel("Qwen/Qwen3-8B", "Hugging Face", "Qwen/Qwen3-8B", 16 << 30)


def test_how_many_there_are_and_whose_is_one_line() -> None:
    assert local_title([SMALL]) == "1 model on this computer"
    assert local_title([SMALL, SMALL, OTHER]) == "3 models on this computer"
    assert local_places([SMALL, SMALL, OTHER]) == "Ollama 2 · Hugging Face 1"


def test_of_a_rounded_model_it_is_said_that_the_original_is_better_and_of_a_refused_one_why() -> None:
    assert "4.5 bits" in LocalLine(SMALL, bits=4.5).remark and "original" in LocalLine(SMALL, bits=4.5).remark
    assert "original" not in LocalLine(SMALL, bits=16.0).remark
    refused = LocalLine(SMALL, refused="It is damaged.", verdict=FitVerdict.FITS)
    assert (refused.fit, refused.tone, refused.remark) == ("cannot be trained", "muted", "It is damaged.")
    assert (LocalLine(OTHER).needs, LocalLine(OTHER).fit, LocalLine(OTHER).size) == ("–", "–", "16.0 GiB")


@pytest.fixture
def ollama(tmp_path: Path, starter_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound model and a damaged one, as Ollama keeps them, in a home with nothing else."""
    for name in ("HOME", "USERPROFILE", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    for name, digest in (("broken", "a" * 64), ("smollm2", "b" * 64)):
        manifest = tmp_path / "manifests" / "registry.ollama.ai" / "library" / name / "latest"
        manifest.parent.mkdir(parents=True)
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}
        manifest.write_text(json.dumps({"layers": [layer]}))
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / f"sha256-{'a' * 64}").write_bytes(b"GGUF, but no more of it")
    (tmp_path / "blobs" / f"sha256-{'b' * 64}").symlink_to(starter_gguf)
    return tmp_path


def test_the_list_is_folded_away_until_it_is_asked_for_and_one_of_it_is_chosen_by_a_click(
    ollama: Path, qapp: QApplication, wait_until: WaitUntil
) -> None:
    card, chosen = LocalModels(), list[str]()
    card.resize(700, 400)
    card.source_requested.connect(chosen.append)
    wiring = LocalWiring(card, lambda: (RunConfig(), "NVIDIA GeForce RTX 4090", 24 << 30))
    wait_until(card.isVisible)
    assert card.title_label.text() == "2 models on this computer" and not card.table.isVisible()
    assert not wiring._known  # no file was opened yet

    QTest.mouseClick(card.show_button, Qt.MouseButton.LeftButton)
    wait_until(lambda: card.lines.rowCount() == 2 and card.lines.row(1).needed_bytes)
    broken, sound = card.lines.row(0), card.lines.row(1)
    assert broken.fit == "cannot be trained" and "damaged" in broken.remark
    assert sound.fit == "fits" and 1 << 28 < sound.needed_bytes < 4 << 30 and 5 < sound.bits < 7

    card.table.selectRow(0)
    assert not card.use_selected.isEnabled()
    card.table.selectRow(1)
    QTest.mouseClick(card.use_selected, Qt.MouseButton.LeftButton)
    assert chosen == ["ollama:smollm2:latest"]
    card.close()
