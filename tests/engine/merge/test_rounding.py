"""A small change survives the rounding of a merge to bfloat16, and a large one is rounded as peft rounds it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from qlora_studio.engine.merge.rounding import rounded
from qlora_studio.engine.merge.writer import merge_adapter
from tests.engine.families import load, make_adapter, make_base

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def _weights(rows: int, columns: int) -> torch.Tensor:
    return (0.2 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))).bfloat16()


def _kept(merged: torch.Tensor, base: torch.Tensor, change: torch.Tensor) -> float:
    """Return which share of a change is there, measured along it."""
    found = merged.double() - base.double()
    return float((found * change).sum() / change.square().sum())


def _small(columns: int) -> torch.Tensor:
    return 1e-4 * torch.ones(columns).cumsum(0).mul(0.7).sin()


@pytest.mark.parametrize("size", [1e-5, 1e-4, 1e-3, 1e-2])
def test_a_change_of_any_size_is_kept(size: float) -> None:
    base = _weights(64, 4096)
    left, right = (torch.randn(*shape, generator=torch.Generator().manual_seed(1)) for shape in ((64, 4), (4, 4096)))
    change = size * left @ right / 2
    assert _kept(rounded(base + change, base, 0), base, change) == pytest.approx(1, abs=0.05)


def test_no_weight_errs_by_more_than_a_step() -> None:
    base = _weights(64, 4096)
    change = _small(4096).expand(64, -1)
    merged = rounded(base + change, base, 0)
    step = (torch.nextafter(merged.abs(), torch.tensor(torch.inf, dtype=torch.bfloat16)) - merged.abs()).float()
    assert ((merged - (base + change)).abs() <= step).all()


def test_rows_without_a_change_stay_as_they_are() -> None:
    base = _weights(64, 512)
    change = torch.zeros(64, 512)
    change[3] = _small(512)
    merged = rounded(base + change, base, 0)
    assert torch.equal(merged[:3], base[:3])
    assert torch.equal(merged[4:], base[4:])
    assert not torch.equal(merged[3], base[3])


def test_a_large_change_is_rounded_to_the_nearest() -> None:
    base, change = _weights(64, 4096), 0.1 * _weights(64, 4096).roll(1, 0).float()
    assert torch.equal(rounded(base + change, base, 0), (base + change).bfloat16())


def test_the_same_rows_are_rounded_alike_in_blocks_of_any_size() -> None:
    base = _weights(12, 4096).view(12, 8, 512)
    merged = base + _small(512)
    whole = rounded(merged, base, 0)
    parts = [rounded(merged[at : at + 5], base[at : at + 5], at) for at in range(0, 12, 5)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(rounded(merged.view(96, 512), base.view(96, 512), 0).view(12, 8, 512), whole)


def test_a_merge_keeps_a_small_adapter_that_peft_s_merge_loses(tmp_path: Path) -> None:
    def shrunk(model: Any) -> None:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.mul_(3e-4)

    base = make_base(tmp_path / "base", "llama", dtype=torch.bfloat16)
    adapter = make_adapter(tmp_path / "adapter", base, edit=shrunk)
    merge_adapter(base, adapter, tmp_path / "out")
    before, ours = load_file(base / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    exact, pefts = (
        PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()
        for model in (load(base).float(), load(base))
    )
    changed = [name for name, tensor in before.items() if not torch.equal(exact[name], tensor.float())]
    assert len(changed) > 10
    for name in changed:
        change = exact[name] - before[name].float()
        assert _kept(ours[name], before[name], change) == pytest.approx(1, abs=0.05), name
        assert _kept(pefts[name], before[name], change) < 0.8, name
