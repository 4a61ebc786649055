"""What does not fit in 16 bits answers in 4, what does not fit in 4 is refused in words, and the rest makes room."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from bitsandbytes.nn import Linear4bit

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import Ask
from qlora_studio.core.run.job import ChatJob
from qlora_studio.engine.chat.answering import Answering, TorchModel
from qlora_studio.engine.chat.models import ChatModels
from qlora_studio.engine.chat.room import sizes
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.model.device import Device
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.engine.finished_run import make_run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
ON_CPU = Device("cpu", torch.bfloat16, "adamw_torch", False)
QUESTION = [{"role": "user", "content": "hello there"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = make_run(tmp_path_factory.mktemp("run") / "made", method="none", lora_alpha=96)
    export_run(run, formats=["safetensors"], channel=QUIET)
    return run


@pytest.fixture
def models(run: RunFolder) -> ChatModels:
    return ChatModels(ChatJob(run_dir=str(run.path)), ON_CPU, QUIET)


def leave_free(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=int(size)))


def bytes_of(run: RunFolder) -> tuple[int, int]:
    return sizes(Path(run.config().model.source), torch.bfloat16)


def is_in_4_bits(model: Answering) -> bool:
    assert isinstance(model, TorchModel)
    return any(isinstance(module, Linear4bit) for module in model.model.modules())


@pytest.mark.parametrize("variant", ["tuned", "base", "merged"])
def test_what_does_not_fit_in_16_bits_answers_in_4_and_says_so(
    run: RunFolder, models: ChatModels, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, packed = bytes_of(run)
    assert packed < whole
    leave_free(monkeypatch, max(packed, whole - 1))
    with models.answering(variant) as model:
        assert is_in_4_bits(model)
        assert model.way == "4bit"
        assert model.answer(Ask(request=1, messages=QUESTION, max_new_tokens=4), lambda _: None, lambda: False)


@pytest.mark.parametrize("variant", ["tuned", "merged"])
def test_what_fits_stays_in_16_bits_and_says_nothing(models: ChatModels, variant: str) -> None:
    model = models.load(variant)
    assert not is_in_4_bits(model)
    assert model.way == ""


@pytest.mark.parametrize(("variant", "words"), [("tuned", "this run's model"), ("merged", "the merged model")])
def test_what_does_not_fit_in_any_way_is_refused_before_it_is_loaded(
    run: RunFolder, models: ChatModels, variant: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_free(monkeypatch, bytes_of(run)[1] - 1)
    with pytest.raises(
        StudioError, match=f"not enough memory for {words} in 4 bits: .* free in this computer"
    ) as caught:
        models.load(variant)
    assert caught.value.kind == FailureKind.OUT_OF_MEMORY
    assert "GGUF" in caught.value.advice
    assert "batch" not in caught.value.advice


def test_a_model_that_was_loaded_before_makes_room_and_its_memory_counts_as_free(
    run: RunFolder, models: ChatModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = models.load("tuned")
    leave_free(monkeypatch, bytes_of(run)[0] * 0.5)
    assert models.load("merged").way == ""
    assert models.load("tuned") is not first


def test_a_model_of_an_unknown_shape_is_weighed_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "of_later"}')
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    assert sizes(tmp_path, torch.bfloat16) == (1000, 500)
    assert sizes(tmp_path, torch.float32)[0] == 2000


def test_the_size_in_16_bits_is_that_of_the_files(run: RunFolder) -> None:
    files = sum(path.stat().st_size for path in Path(run.config().model.source).glob("*.safetensors"))
    assert bytes_of(run)[0] == pytest.approx(files, rel=0.03)
