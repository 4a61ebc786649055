"""What cannot fit is refused with its figure, before its rows are read or its weights loaded."""

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import LlamaConfig

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.quantity import GIB
from qlora_studio.core.run.job import TrainJob
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.model.device import Device
from qlora_studio.engine.training import job
from qlora_studio.engine.training.memory_space import require_memory, with_sharding
from tests.engine.families import make_tokenizer
from tests.engine.training_run import make_run

_CARD = Device("cuda:0", torch.bfloat16, "paged_adamw_32bit", True)


def _large(folder: Path, layers: int) -> Path:
    """Make a model of 17 billion parameters a layer: its files have a header and a hole. Returns its folder."""
    config = LlamaConfig(
        hidden_size=32768,
        intermediate_size=131072,
        num_hidden_layers=layers,
        num_attention_heads=256,
        num_key_value_heads=256,
        vocab_size=320,
    )
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    rows = 250_000 + 525_000 * layers  # as many numbers as the config says, in a hole of the file
    size = 2 * rows * 32768
    header = json.dumps({"lm_head.weight": {"dtype": "BF16", "shape": [rows, 32768], "data_offsets": [0, size]}})
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(8 + len(header) + size)
    return make_tokenizer(folder)


def _layers_that_do_not_fit() -> int:
    return int(psutil.virtual_memory().total // (8 * GIB)) + 1  # a layer takes more than 8 GiB in 4 bit


def test_a_job_refuses_what_memory_cannot_hold_before_it_reads_a_row(tmp_path: Path) -> None:
    base = _large(tmp_path / "base", _layers_that_do_not_fit())
    folder = make_run(tmp_path / "runs", base)
    context = JobContext(folder)
    with pytest.raises(StudioError, match=r"take at least [\d.,]+ GiB, and the memory has [\d.,]+ GiB free") as caught:
        job.run(TrainJob(), context)
    context.close()
    assert caught.value.advice == "Choose a smaller model."
    assert not [event for event in folder.events() if event.type in ("dataset_prepared", "model_loaded")]


# A layer's 4 bits and their constants are 8 GiB; one of its matrices is unpacked at a time, into another 8.
@pytest.mark.parametrize(("free", "refused"), [(12.0, True), (17.0, False), (20.0, False)])
def test_a_card_is_asked_for_what_it_has_free(
    free: float, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (int(free * GIB), 24 * GIB))
    base = _large(tmp_path / "base", 1)
    config = RunConfig().with_value("model.source", str(base))
    if not refused:
        require_memory(base, config, _CARD)
        return
    with pytest.raises(StudioError, match=r"12\.0 GiB free of 24\.0 GiB") as caught:
        require_memory(base, config, _CARD)
    assert "Close what else" in str(caught.value.advice)


def test_a_16_bit_base_that_does_not_fit_is_advised_4_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (24 * GIB, 24 * GIB))
    base = _large(tmp_path / "base", 1)
    config: Any = RunConfig().with_value("model.source", str(base)).with_value("quantization.method", "none")
    with pytest.raises(StudioError, match="does not fit") as caught:
        require_memory(base, config, _CARD)
    assert "nf4" in str(caught.value.advice)


def test_cards_share_a_base_out_that_one_of_them_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (48 * GIB, 48 * GIB))
    base = _large(tmp_path / "base", 8)
    config: Any = RunConfig().with_value("model.source", str(base)).with_value("hardware.gpus", "0,1,2,3,4,5,6,7")
    with pytest.raises(StudioError, match="does not fit"):
        require_memory(base, config, _CARD)
    with pytest.raises(StudioError, match="does not fit") as caught:
        require_memory(base, config.with_value("hardware.sharding", "off"), _CARD, 8)
    assert "hardware.sharding = auto" in str(caught.value.advice)
    require_memory(base, config, _CARD, 8)


def test_what_cannot_be_shared_out_is_refused_where_that_is_wished_for(tmp_path: Path) -> None:
    base = _large(tmp_path / "base", 1)
    config: Any = RunConfig().with_value("model.source", str(base)).with_value("quantization.method", "none")
    wished, processor = config.with_value("hardware.sharding", "on"), Device("cpu", torch.float32, "adamw_torch", True)
    with pytest.raises(StudioError, match="A base in 16 bits cannot be sharded here"):
        with_sharding(base, wished, processor, None, ["cpu", "cpu"], 2)
    with pytest.raises(StudioError, match="Several machines do not share a base out"):
        with_sharding(base, config.with_value("hardware.sharding", "on"), processor, None, ["cpu", "cpu"], 4)
    assert with_sharding(base, wished, processor, None, [], 1).hardware.sharding == "off"  # one process has all of it
