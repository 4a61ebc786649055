"""Which card a worker sees: by UUID, one alone, as it was wished for and as the environment leaves it."""

import os
import sys
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import from_mapping, from_toml, to_toml
from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.job import DataJob
from qlora_studio.jobs.card_choice import card_environment, chosen_card, count_together, visible_cards
from qlora_studio.jobs.gpu_sample import GpuCard
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import create_job_folder, create_run_folder

_GIB = 1 << 30
_SMALL = GpuCard(0, "GPU-aa11", "RTX 4060", 8 * _GIB, 7 * _GIB)
_BUSY = GpuCard(1, "GPU-bb22", "RTX 4090", 24 * _GIB, 5 * _GIB)
_FREE = GpuCard(2, "GPU-cc33", "RTX 4090", 24 * _GIB, 23 * _GIB)
_CARDS = (_SMALL, _BUSY, _FREE)


@pytest.mark.parametrize(
    ("wish", "card"),
    [("auto", _FREE), ("1", _BUSY), ("GPU-aa11", _SMALL), ("GPU-bb", _BUSY)],
)
def test_a_worker_sees_the_card_of_its_wish_alone(wish: str, card: GpuCard) -> None:
    assert card_environment(wish, _CARDS, {}) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": card.uuid,
    }


def test_auto_keeps_off_cards_that_runs_are_on_while_another_is_left() -> None:
    assert chosen_card("auto", _CARDS, {}, taken={"GPU-cc33"}) == _SMALL
    assert chosen_card("auto", _CARDS, {}, taken={card.uuid for card in _CARDS}) == _FREE


def test_auto_does_not_change_its_mind_for_some_megabytes() -> None:
    cards = (GpuCard(0, "GPU-a", "x", 24 * _GIB, 23 * _GIB), GpuCard(1, "GPU-b", "x", 24 * _GIB, 23 * _GIB + 1))
    assert chosen_card("auto", cards, {}) == cards[0]


def test_the_processor_sees_no_card() -> None:
    assert card_environment("cpu", _CARDS, {}) == {"CUDA_VISIBLE_DEVICES": ""}


def test_a_part_of_a_card_is_taken_as_it_is() -> None:
    assert card_environment("MIG-1f2e", _CARDS, {}) == {"CUDA_VISIBLE_DEVICES": "MIG-1f2e"}


@pytest.mark.parametrize(
    ("told", "order", "found"),
    [
        ("GPU-aa11,GPU-bb22", "", (_SMALL, _BUSY)),
        ("GPU-b", "", (_BUSY,)),
        ("2,0", "PCI_BUS_ID", (_FREE, _SMALL)),
        ("0,9,1", "PCI_BUS_ID", (_SMALL,)),
        ("1", "", ()),
        ("", "", ()),
        ("-1", "", ()),
        ("MIG-1f2e", "", ()),
    ],
)
def test_what_the_environment_leaves_is_what_cuda_would_see(told: str, order: str, found: tuple[GpuCard, ...]) -> None:
    environment = {"CUDA_VISIBLE_DEVICES": told} | ({"CUDA_DEVICE_ORDER": order} if order else {})
    assert visible_cards(_CARDS, environment) == found


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("GPU-aa11,GPU-bb22", "GPU-aa11"),  # 7 GiB are more than 5
        ("1,0", "1"),  # by CUDA's own order: left to it, and one alone
        ("1", None),
        ("", None),
        ("MIG-1f2e", None),
    ],
)
def test_what_a_scheduler_set_is_obeyed(told: str, expected: str | None) -> None:
    assert card_environment("auto", _CARDS, {"CUDA_VISIBLE_DEVICES": told}).get("CUDA_VISIBLE_DEVICES") == expected


@pytest.mark.parametrize(
    ("wish", "environment", "words"),
    [
        ("GPU-gone", {}, r"not in this computer, which has 0: RTX 4060 \(GPU-aa11\); 1: RTX 4090"),
        ("7", {}, "card number 7"),
        ("GPU-cc33", {"CUDA_VISIBLE_DEVICES": "GPU-aa11"}, "CUDA_VISIBLE_DEVICES in the environment hides it"),
    ],
)
def test_a_card_that_cannot_be_had_is_told_by_name(wish: str, environment: dict[str, str], words: str) -> None:
    with pytest.raises(StudioError, match=words) as caught:
        card_environment(wish, _CARDS, environment)
    assert "hardware.gpus=auto" in caught.value.advice


def test_without_cards_nothing_is_set_and_a_named_one_is_refused() -> None:
    assert card_environment("auto", (), {}) == {}
    with pytest.raises(StudioError, match="No NVIDIA card answers"):
        card_environment("GPU-aa11", (), {})


@pytest.mark.parametrize(
    ("wish", "together"),
    [("all", ["GPU-aa11", "GPU-bb22", "GPU-cc33"]), ("2,GPU-aa11", ["GPU-cc33", "GPU-aa11"])],
)
def test_a_worker_sees_the_first_of_several_cards_and_is_told_of_all(wish: str, together: list[str]) -> None:
    assert card_environment(wish, _CARDS, {}) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": together[0],
        "QLORA_STUDIO_RANKS": ",".join(together),
    }


def test_one_card_named_twice_or_all_of_one_is_one_card() -> None:
    alone = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-aa11"}
    assert card_environment("0,GPU-aa11", _CARDS, {}) == alone
    assert card_environment("all", _CARDS[:1], {}) == alone


def test_of_cards_that_train_together_the_one_with_the_least_memory_is_asked_whether_it_fits() -> None:
    assert chosen_card("all", _CARDS, {}) == _BUSY
    assert chosen_card("0,2", _CARDS, {}) == _SMALL


def test_one_of_several_cards_that_is_not_there_is_told() -> None:
    with pytest.raises(StudioError, match="card number 7"):
        card_environment("0,7", _CARDS, {})


def test_several_cards_may_be_a_list_in_the_file() -> None:
    config = from_toml('[hardware]\ngpus = ["GPU-aa11", 2]\n')
    assert config.hardware.gpus == "GPU-aa11,2"
    assert from_toml(to_toml(config)) == config


@pytest.mark.parametrize("wish", ["GPU", "gpu-x y", "-1", "0,,1", "0,auto", "MIG-1,MIG-2", "cuda:0", "'; ls"])
def test_a_wish_that_is_none_is_refused_with_what_may_stand_there(wish: str) -> None:
    with pytest.raises(StudioError, match="a number or a UUID"):
        from_mapping({"hardware": {"gpus": wish}})


def test_the_processor_is_what_the_worker_of_such_a_run_is_started_with(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path, RunConfig.model_validate({"hardware": {"gpus": "cpu"}}))
    program = (sys.executable, "-c", "import os; print(repr(os.environ.get('CUDA_VISIBLE_DEVICES')))")
    start_worker(folder, program).wait(30)
    assert folder.log_path.read_text().strip() == "''"


def test_a_job_that_only_reads_data_starts_whatever_card_its_config_names(tmp_path: Path) -> None:
    config = RunConfig.model_validate({"hardware": {"gpus": "GPU-of-another-computer"}})
    folder = create_job_folder(tmp_path, DataJob(config=config))
    assert start_worker(folder, (sys.executable, "-c", "")).wait(30) == 0


def test_a_run_whose_card_is_not_here_is_not_started_and_may_take_another(tmp_path: Path) -> None:
    config = RunConfig.model_validate({"hardware": {"gpus": "GPU-of-another-computer"}})
    folder = create_run_folder(tmp_path, config)
    with pytest.raises(StudioError, match="GPU-of-another-computer"):
        start_worker(folder)
    assert start_worker(folder, (sys.executable, "-c", ""), gpus="cpu").wait(30) == 0
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None


@pytest.mark.parametrize(("wish", "count"), [("auto", 1), ("0", 1), ("all", 2), ("0,1", 2), ("0,5,7", 3), ("cpu", 1)])
def test_how_many_cards_train_together_is_known_though_one_is_not_here(wish: str, count: int) -> None:
    assert count_together(wish, _CARDS[:2], {}) == count
    assert count_together("all", (), {}) == 1
