"""A run is sent whole or not at all, and what keeps it from going is said before anything is left behind."""

import hashlib
import threading
from pathlib import Path, PureWindowsPath

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.elsewhere import shell
from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.commands import Pause
from qlora_studio.jobs.elsewhere import handing_over
from qlora_studio.jobs.elsewhere.acts import cancel_job, fetch
from qlora_studio.jobs.elsewhere.connection import Connection
from qlora_studio.jobs.elsewhere.place_check import check_place
from qlora_studio.jobs.elsewhere.sending import plan_sending
from qlora_studio.jobs.elsewhere.submission import submit, submit_again
from qlora_studio.storage.places import load_places, place_named, remove_place, save_place
from qlora_studio.storage.runs.elsewhere_record import is_open_elsewhere, read_record
from qlora_studio.storage.runs.run_folder import run_folders
from tests.elsewhere.places import followed, place_for, put_program, there, until
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


def _large(tmp_path: Path) -> RunConfig:
    large = tmp_path / "large.jsonl"
    large.write_bytes(b"x" * (4 << 20))
    return RunConfig.model_validate({"model": {"source": "owner/model"}, "data": {"path": str(large)}})


def test_sending_is_stopped_at_once_though_the_file_system_there_hangs(
    scheduler: Path, studio_home: Path, tmp_path: Path
) -> None:
    """A `cat` that takes nothing in, as one whose file system is stuck."""
    put_program(tmp_path, "cat", "exec sleep 60")
    stop, errors = threading.Event(), list[StudioError]()

    def sending() -> None:
        try:
            submit(plan_sending(_large(tmp_path), place_for("finish", tmp_path)), studio_home / "runs", stop)
        except StudioError as error:
            errors.append(error)

    thread = threading.Thread(target=sending)
    thread.start()
    until(lambda: [*tmp_path.glob("there/*/elsewhere/sent/1/large.jsonl.part")])
    stop.set()
    thread.join(20)
    assert [(error.kind, error.message) for error in errors] == [
        (FailureKind.INTERRUPTED, "Nothing was submitted: it was stopped.")
    ]
    assert errors[0].advice == ""
    assert run_folders(studio_home / "runs") == []
    assert [*(tmp_path / "there").iterdir()] == []


def test_what_could_not_be_removed_there_is_named(scheduler: Path, studio_home: Path, tmp_path: Path) -> None:
    put_program(tmp_path, "cat", "exit 1")
    put_program(tmp_path, "rm", "exit 1")
    with pytest.raises(StudioError, match="did not do what it was asked") as raised:
        submit(plan_sending(_large(tmp_path), place_for("finish", tmp_path)), studio_home / "runs")

    [left] = (tmp_path / "there").iterdir()
    assert raised.value.advice == f"What was sent is left in {left} there: remove it."


def test_a_file_that_cannot_be_read_any_more_is_named(send: Submit, studio_home: Path, tmp_path: Path) -> None:
    planned = plan_sending(_large(tmp_path), place_for("finish", tmp_path))
    (tmp_path / "large.jsonl").unlink()
    with pytest.raises(StudioError, match=r"large\.jsonl") as raised:
        submit(planned, studio_home / "runs")
    assert raised.value.kind is FailureKind.NOT_READABLE


def test_a_model_that_is_named_by_a_path_must_be_there(studio_home: Path, tmp_path: Path, send: Submit) -> None:
    data = {"path": str(tmp_path / "it's data.jsonl")}
    config = RunConfig.model_validate({"model": {"source": "owner/model"}, "data": data})
    sending = plan_sending(config, place_for("finish", tmp_path), model="/models/none")

    with pytest.raises(StudioError, match="There is no /models/none on cluster"):
        submit(sending, studio_home / "runs")


@pytest.mark.parametrize(
    ("name", "is_path"),
    [
        (str(PureWindowsPath("C:\\models", "mine")), True),
        ("D:/models/mine", True),
        (str(PureWindowsPath("//server/share/mine")), True),
        ("/models/mine", True),
        ("~/models/mine", True),
        ("./mine", True),
        ("mine.gguf", True),
        ("owner/mine", False),
        ("mine", False),
        ("starter", False),
    ],
)
def test_what_is_a_path_on_any_system_must_be_there(tmp_path: Path, name: str, is_path: bool) -> None:
    for values in ({"model": {"source": name}}, {"quantization": {"original": name}}):
        whole = {"data": {"path": str(tmp_path)}, "model": {"source": "owner/model"}} | values
        config = RunConfig.model_validate(whole)
        assert plan_sending(config, Place(name="c")).expected == ((name,) if is_path else ())


def test_a_model_in_the_home_there_is_found_by_its_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home there" / "my models").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home there"))
    asked = shell.missing(["~/my models", "~/none", "C:\\models\\mine"])
    found = Connection(Place(name="c")).ask(asked)
    assert [part.text for part in found] == [f"{tmp_path}/home there/none", "C:\\models\\mine"]


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


def test_what_was_sent_is_named_where_it_is_gone_when_the_run_is_submitted_again(send: Submit) -> None:
    run = send("start,exit:1")
    followed(run).join(30)
    (run.path / "elsewhere" / "run.toml").unlink()
    with pytest.raises(StudioError, match="is not there: it says what was sent") as raised:
        submit_again(run)
    assert raised.value.kind is FailureKind.NOT_READABLE


_TAKES_ITS_TIME = 'touch "$SLURM_STAND_IN/asked"; sleep 2; echo 77 | tee "$SLURM_STAND_IN/77"'
_NEVER_ANSWERS = 'touch "$SLURM_STAND_IN/asked"; exec sleep 60'


def _stopped_amid(scheduler: Path, studio_home: Path, tmp_path: Path) -> StudioError:
    """Send a run, and stop while the scheduler is asked; return what that raises."""
    (tmp_path / "rows.jsonl").touch()
    data = {"path": str(tmp_path / "rows.jsonl")}
    config = RunConfig.model_validate({"model": {"source": "owner/model"}, "data": data})
    stop, errors = threading.Event(), list[StudioError]()

    def sending() -> None:
        try:
            submit(plan_sending(config, place_for("finish", tmp_path)), studio_home / "runs", stop)
        except StudioError as error:
            errors.append(error)

    thread = threading.Thread(target=sending)
    thread.start()
    until((scheduler / "asked").exists)
    stop.set()
    thread.join(30)
    return errors[0]


def test_a_job_that_is_taken_though_it_was_stopped_is_cancelled_and_nothing_is_left(
    scheduler: Path, studio_home: Path, tmp_path: Path
) -> None:
    put_program(tmp_path, "sbatch", _TAKES_ITS_TIME)
    error = _stopped_amid(scheduler, studio_home, tmp_path)

    assert (error.kind, error.message) == (FailureKind.INTERRUPTED, "Nothing was submitted: it was stopped.")
    assert (scheduler / "77").read_text() == "CANCELLED\n"
    assert run_folders(studio_home / "runs") == []
    assert [*(tmp_path / "there").iterdir()] == []


def test_a_job_that_could_not_be_cancelled_again_is_kept_and_named(
    scheduler: Path, studio_home: Path, tmp_path: Path
) -> None:
    put_program(tmp_path, "sbatch", _TAKES_ITS_TIME)
    put_program(tmp_path, "scancel", "exit 1")
    error = _stopped_amid(scheduler, studio_home, tmp_path)

    [run] = run_folders(studio_home / "runs")
    assert error.message == "Job 77 was submitted to cluster before it was stopped."
    assert str(run.path) in error.advice
    assert is_open_elsewhere(run.path)


def test_where_nobody_knows_whether_the_job_was_taken_both_folders_are_kept_and_a_taken_one_is_followed_later(
    scheduler: Path, studio_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing_over, "_ANSWERING_SECONDS", 0.5)
    put_program(tmp_path, "sbatch", _NEVER_ANSWERS)
    error = _stopped_amid(scheduler, studio_home, tmp_path)

    [run], [left] = run_folders(studio_home / "runs"), [*(tmp_path / "there").iterdir()]
    assert error.message == "Whether cluster took the job is not known: the connection broke off."
    assert str(left) in error.advice
    assert "scancel" in error.advice
    (left / "elsewhere" / "submitted").write_text("77")  # it had been
    submit_again(run)
    record = read_record(run.path)
    assert record is not None
    assert (record.job, record.open, record.asked) == ("77", True, False)


def test_an_answer_that_was_given_but_did_not_come_is_asked_for_again(
    send: Submit, scheduler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_program(tmp_path, "sbatch", "echo 77")
    asked = shell.submit
    monkeypatch.setattr(shell, "submit", lambda folder: f"{asked(folder)}exit 9\n")
    record = read_record(send("finish").path)
    assert record is not None
    assert (record.job, record.open) == ("77", True)


def test_a_scheduler_that_timed_out_may_have_taken_the_job(
    send: Submit, scheduler: Path, studio_home: Path, tmp_path: Path
) -> None:
    put_program(tmp_path, "sbatch", "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1")
    with pytest.raises(StudioError, match="Whether cluster took the job is not known"):
        send("finish")
    assert len(run_folders(studio_home / "runs")) == 1


def test_a_run_that_is_submitted_again_and_stopped_meanwhile_has_its_job_cancelled_and_is_kept(
    send: Submit, scheduler: Path, tmp_path: Path
) -> None:
    run = send("start,exit:1")
    followed(run).join(30)
    put_program(tmp_path, "sbatch", _TAKES_ITS_TIME)
    stop, errors = threading.Event(), list[str]()

    def again() -> None:
        try:
            submit_again(run, stop=stop)
        except StudioError as error:
            errors.append(error.message)

    thread = threading.Thread(target=again)
    thread.start()
    until((scheduler / "asked").exists)
    stop.set()
    thread.join(30)
    assert errors == ["Job 77 on cluster is cancelled: it was stopped."]
    assert (scheduler / "77").read_text() == "CANCELLED\n"
    assert there(run, tmp_path).path.is_dir()
    followed(run).join(30)
    assert not is_open_elsewhere(run.path)
