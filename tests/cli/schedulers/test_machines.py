"""Several machines train a run only by a whole act, which says what listens, and that the network must be trusted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import DatasetSource, RunConfig
from qlora_studio.core.errors import ExitCode
from qlora_studio.core.run.machines import different_settings, with_own_places
from tests.cli.conftest import Outcome

_ACT = ("--machines", "2", "--machine", "0", "--meet", "127.0.0.1:29411", "--interface", "lo")


@pytest.fixture
def train(studio: Callable[..., Outcome], tmp_path: Path) -> Callable[..., Outcome]:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n' * 4)
    return lambda *act: studio("train", "--model", "starter", "--data", str(rows), *act)


def test_nothing_is_started_before_the_network_is_called_trusted(
    train: Callable[..., Outcome], studio_home: Path
) -> None:
    refused = train(*_ACT)
    assert refused.code == ExitCode.USAGE
    assert "Nothing was started: that network was not called trusted." in refused.err
    assert "It also listens on 127.0.0.1, port 29411, where the machines meet." in refused.err
    assert "Every computer of 127.0.0.0/8 reaches these ports" in refused.err
    assert "whoever reaches them can read and change what the run learns" in refused.err
    assert not (studio_home / "runs").exists()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (("--trust-network",), "--machines, --machine, --meet, --interface is missing"),
        ((*_ACT[:6], "--trust-network"), "--interface is missing"),
        ((*_ACT[:7], "qlora-none"), "There is no network interface qlora-none"),
        ((*_ACT[:5], "192.0.2.7:29411", *_ACT[6:]), "192.0.2.7 is no address of lo, which has 127.0.0.1"),
        ((*_ACT[:5], "127.0.0.1:no", *_ACT[6:]), "is no such value"),
        (("--machines", "2", "--machine", "2", *_ACT[4:]), "the last one is --machine 1"),
    ],
)
def test_an_act_that_is_not_whole_or_cannot_be_is_refused(
    train: Callable[..., Outcome], act: tuple[str, ...], words: str
) -> None:
    refused = train(*act)
    assert refused.code == ExitCode.USAGE
    assert words in refused.err


def test_what_torchrun_and_slurm_tell_of_other_machines_means_nothing_without_the_act(
    train: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "192.0.2.7", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert "machine" not in train("--set", "training.epochs=none").err


def test_machines_may_differ_in_names_folders_and_cards_and_in_nothing_else() -> None:
    first = RunConfig().with_value("data.path", "/a").with_value("data.more", [DatasetSource(path="/b").model_dump()])
    own = {"name": "other", "model.source": "/m", "data.path": "/c", "hardware.gpus": "cpu"}
    other = first
    for path, value in own.items():
        other = other.with_value(path, value)
    other = other.with_value("data.more", [DatasetSource(path="/d").model_dump()])
    assert different_settings(first, other) == []
    mine = with_own_places(first.with_value("training.batch_size", 4), other)
    assert (mine.model.source, mine.data.path, mine.data.more[0].path, mine.hardware.gpus) == ("/m", "/c", "/d", "cpu")
    assert mine.training.batch_size == 4
    changed = other.with_value("training.learning_rate", 1e-3).with_value("data.more", [])
    assert different_settings(first, changed) == ["data.more", "training.learning_rate"]


@pytest.mark.parametrize(
    ("launcher", "told"),
    [
        ("torchrun", {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"}),
        ("srun", {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}),
    ],
)
def test_a_launcher_that_starts_it_several_times_is_refused_instead_of_training_as_many_runs(
    train: Callable[..., Outcome],
    studio_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    launcher: str,
    told: dict[str, str],
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    refused = train()
    assert refused.code == ExitCode.USAGE
    assert f"{launcher} starts this 2 times" in refused.err
    assert not (studio_home / "runs").exists()


def test_nodes_of_a_job_find_each_other_by_a_file_in_the_run_s_folder(
    studio: Callable[..., Outcome], tmp_path: Path
) -> None:
    """By an address of the interface and a free port; what an earlier job of the run left there says nothing."""
    old, file = tmp_path / "meeting-6-0", tmp_path / "meeting-7-0"
    old.write_text("[192.0.2.7]:1")
    act = ("elsewhere", "work", str(tmp_path), "--sha256", "0" * 64, "--machines", "2", "--interface", "lo")
    first, second = (studio(*act, "--machine", number, "--meet-by", file.name) for number in "01")
    port = file.read_text().removeprefix("[127.0.0.1]:")
    assert not old.exists()
    assert f"It also listens on 127.0.0.1, port {port}, where the machines meet." in first.err
    assert "Machine 1 of 2, by lo" in second.err
    for refused in (first, second):
        assert "that network was not called trusted" in refused.err
