"""A run is sent whole or not at all, and what keeps it from going is said before anything is left behind."""

import hashlib
import threading
from pathlib import Path

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import Pause
from qlora_studio.jobs.elsewhere.acts import cancel_job, fetch
from qlora_studio.jobs.elsewhere.place_check import check_place
from qlora_studio.jobs.elsewhere.sending import plan_sending
from qlora_studio.jobs.elsewhere.submission import submit, submit_again
from qlora_studio.storage.places import load_places, place_named, remove_place, save_place
from qlora_studio.storage.runs.run_folder import run_folders
from tests.elsewhere.places import followed, place_for, there
from tests.jobs.elsewhere.conftest import Submit


def test_what_is_sent_is_what_the_settings_there_name(send: Submit, tmp_path: Path) -> None:
    run = send("start,finish")
    sent = there(run, tmp_path)

    assert Path(sent.config().data.path).read_text() == (tmp_path / "it's data.jsonl").read_text()
    assert run.config().data.path == str(tmp_path / "it's data.jsonl")
    assert (run.path / "elsewhere" / "run.toml").read_bytes() == sent.config_path.read_bytes()
    assert hashlib.sha256(sent.config_path.read_bytes()).hexdigest() in (sent.path / "elsewhere/job.sh").read_text()
    assert oct(sent.config_path.stat().st_mode & 0o777) == "0o600"
    followed(run).join(30)


def test_a_job_that_is_not_taken_leaves_nothing_here_or_there(
    send: Submit, scheduler: Path, studio_home: Path, tmp_path: Path
) -> None:
    (scheduler / "refuse").touch()
    with pytest.raises(StudioError, match="Invalid partition name specified") as raised:
        send("start,finish")

    assert raised.value.kind is FailureKind.NOT_REACHED
    assert run_folders(studio_home / "runs") == []
    assert [*(tmp_path / "there").iterdir()] == []


def test_sending_can_be_stopped(send: Submit, studio_home: Path, tmp_path: Path) -> None:
    large, stop, told = tmp_path / "large.jsonl", threading.Event(), list[int]()
    large.write_bytes(b"x" * (4 << 20))
    config = RunConfig.model_validate({"model": {"source": "owner/model"}, "data": {"path": str(large)}})

    def progress(done: int, total: int) -> None:
        told.append(done)
        stop.set()

    with pytest.raises(StudioError, match="it was stopped"):
        submit(plan_sending(config, place_for("finish", tmp_path)), studio_home / "runs", stop, progress)
    assert 0 < told[-1] < large.stat().st_size
    assert [*(tmp_path / "there").iterdir()] == []


def test_a_model_that_is_named_by_a_path_must_be_there(studio_home: Path, tmp_path: Path, send: Submit) -> None:
    data = {"path": str(tmp_path / "it's data.jsonl")}
    config = RunConfig.model_validate({"model": {"source": "owner/model"}, "data": data})
    sending = plan_sending(config, place_for("finish", tmp_path), model="/models/none")

    with pytest.raises(StudioError, match="There is no /models/none on cluster"):
        submit(sending, studio_home / "runs")


def test_a_checkpoint_that_is_not_there_is_named_with_those_that_are(send: Submit) -> None:
    run = send("start,steps:1,adapter,finish")
    followed(run).join(30)

    assert fetch(run) == run.adapter_path
    with pytest.raises(StudioError, match="There is no checkpoint best on cluster"):
        fetch(run, "best")


def test_a_place_is_kept_until_it_is_forgotten(studio_home: Path, tmp_path: Path) -> None:
    place = place_for("finish", tmp_path)
    save_place(place.model_copy(update={"time": "1:00:00"}))

    assert [item.time for item in load_places()] == ["1:00:00"]
    remove_place("cluster")
    with pytest.raises(StudioError, match="No place is called cluster"):
        place_named("cluster")


def test_what_is_wrong_with_a_place_is_said_all_at_once(scheduler: Path, tmp_path: Path) -> None:
    place = place_for("exit:1", tmp_path).model_copy(update={"program": "no-such-program"})
    report = check_place(place)

    assert report.home == str(tmp_path / "there")
    assert not report.is_well
    assert len(report.problems) == 2  # there is no sinfo either
    assert "no-such-program: command not found" in report.problems[1]


def test_a_folder_that_no_job_script_can_name_is_said_when_the_place_is_tried(
    studio_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "my home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    [first, *_] = check_place(Place(name="c", folder="~/runs")).problems

    assert first.startswith(f"{home}/runs cannot stand in a job script")


def test_nodes_train_together_only_where_their_network_is_called_trusted_for_the_run(
    scheduler: Path, studio_home: Path, tmp_path: Path
) -> None:
    (scheduler / "hold").touch()
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n')
    config = RunConfig.model_validate({"model": {"source": "owner/model"}, "data": {"path": str(data)}})
    place = place_for("start,finish", tmp_path).model_copy(update={"nodes": 2, "interface": "ib0"})
    save_place(place)
    asked = plan_sending(config, place)
    assert any("Whoever reaches ib0 there" in note for note in asked.notes)
    with pytest.raises(StudioError, match="the network of ib0 was not called trusted"):
        submit(asked, studio_home / "runs")
    assert not (tmp_path / "there").exists()

    run = submit(plan_sending(config, place, trusts=True), studio_home / "runs")
    mirroring = followed(run)
    run.send(Pause())
    mirroring.join(30)
    submit_again(run)
    assert "--trust-network" in (there(run, tmp_path).path / "elsewhere/job.sh").read_text()
    cancel_job(run)
    followed(run).join(30)
    save_place(place.model_copy(update={"interface": "eth0"}))
    with pytest.raises(StudioError, match="the network of eth0 was not called trusted"):
        submit_again(run)


@pytest.mark.parametrize(
    ("gpus", "cards", "nodes", "ranks"), [("auto", "3", 1, 3), ("auto", "3", 2, 6), ("cpu", "8", 3, 3)]
)
def test_a_step_that_does_not_come_out_even_over_all_cards_is_refused_before_anything_is_sent(
    tmp_path: Path, gpus: str, cards: str, nodes: int, ranks: int
) -> None:
    data = tmp_path / "rows.jsonl"
    data.touch()
    values = {"model": {"source": "owner/model"}, "data": {"path": str(data)}, "hardware": {"gpus": gpus}}
    place = Place(name="c", cards=cards, nodes=nodes, interface="ib0")
    with pytest.raises(StudioError, match=f"cannot be dealt evenly to {ranks} cards"):
        plan_sending(RunConfig.model_validate({**values, "training": {"gradient_accumulation": 16}}), place)
