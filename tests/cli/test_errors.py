"""Whatever goes wrong is told in a sentence with advice, and by an exit code of its own; never by a traceback."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.cli.main import run
from qlora_studio.core.errors import ExitCode
from qlora_studio.storage.durable import write_manifest
from qlora_studio.storage.runs.export_folder import ExportManifest
from tests.cli.conftest import Outcome

Studio = Callable[..., Outcome]


def assert_told(outcome: Outcome, code: ExitCode, words: str) -> None:
    assert outcome.code == code, outcome.err
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def test_a_missing_model_is_told(studio: Studio, chats: Path) -> None:
    outcome = studio("train", "--model", "no/such/model", "--data", str(chats))

    assert_told(outcome, ExitCode.MODEL_NOT_FOUND, "There is no model at 'no/such/model'.")


def test_a_missing_dataset_is_told(studio: Studio, starter_gguf: Path) -> None:
    outcome = studio("train", "--model", "starter", "--data", "nowhere.jsonl")

    assert_told(outcome, ExitCode.DATA_NOT_FOUND, "nowhere.jsonl")


def test_nothing_is_created_for_a_run_that_cannot_start(studio: Studio, studio_home: Path) -> None:
    studio("train", "--model", "starter", "--data", "nowhere.jsonl")

    assert not (studio_home / "runs").exists()


def test_every_wrong_setting_is_named_at_once(studio: Studio, tmp_path: Path) -> None:
    run_file = tmp_path / "run.toml"
    run_file.write_text('[training]\nepochs = -1\nbatchsize = 2\n[lora]\nrank = "many"\n')

    outcome = studio("train", str(run_file), "--set", "lora.dropout=2")

    assert_told(outcome, ExitCode.INVALID_CONFIG, "training.epochs: must be more than 0")
    assert "did you mean training.batch_size?" in outcome.err
    assert "lora.rank" in outcome.err
    assert "lora.dropout" in outcome.err


def test_a_run_without_model_and_data_names_both(studio: Studio) -> None:
    outcome = studio("train")

    assert_told(outcome, ExitCode.INVALID_CONFIG, "model.source: Choose a base model.")
    assert "data.path: Choose a dataset." in outcome.err


@pytest.mark.parametrize("text", ["not toml at all", "[model\n", "\x00"])
def test_a_run_file_that_is_no_toml_is_told(studio: Studio, tmp_path: Path, text: str) -> None:
    run_file = tmp_path / "run.toml"
    run_file.write_text(text)

    assert_told(studio("train", str(run_file)), ExitCode.INVALID_CONFIG, "run.toml cannot be read: it is no valid TOML")


def test_a_missing_run_file_is_told(studio: Studio) -> None:
    assert_told(studio("train", "nowhere.toml"), ExitCode.RUN_NOT_FOUND, "nowhere.toml cannot be read")


def test_a_base_that_is_stored_quantized_is_told_by_estimate_and_refused_by_the_worker(
    studio: Studio, tiny_llama: Path, tmp_path: Path, chats: Path
) -> None:
    folder = tmp_path / "Qwen3-8B-AWQ"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))

    assert "Qwen/Qwen3-8B" in studio("estimate", "--model", str(folder), "--json").report["quantized"]
    outcome = studio("train", "--model", str(folder), "--data", str(chats), "--runs", str(tmp_path / "runs"))
    assert outcome.code == ExitCode.MODEL_NOT_FOUND
    assert "is stored quantized (AWQ in 4 bits)" in outcome.err
    assert "Choose the original in 16 bits, Qwen/Qwen3-8B" in outcome.err


def test_a_place_that_cannot_be_written_is_told(studio: Studio, chats: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    outcome = studio("train", "--model", "starter", "--data", str(chats), "--runs", str(tmp_path / "file" / "runs"))

    assert_told(outcome, ExitCode.NOT_WRITABLE, "Cannot write to")


@pytest.mark.parametrize("command", [["resume"], ["watch"], ["merge"], ["export"], ["chat", "--prompt", "x"]])
def test_a_folder_that_is_no_run_is_told(studio: Studio, tmp_path: Path, command: list[str]) -> None:
    assert_told(studio(*command, str(tmp_path)), ExitCode.RUN_NOT_FOUND, "is not a run")


@pytest.mark.parametrize("command", [["verify"], ["upload", "--repo", "alice/log-bot"]])
def test_a_run_where_an_export_is_meant_is_told_with_its_exports(
    studio: Studio, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "run.toml").write_text('name = "x"\n')
    assert_told(studio(*command, str(tmp_path)), ExitCode.USAGE, "It has none yet: `qlora-studio export` makes one.")
    export = tmp_path / "exports" / "gguf"
    export.mkdir(parents=True)
    write_manifest(export, ExportManifest(format="gguf"))
    assert_told(studio(*command, str(tmp_path)), ExitCode.USAGE, f"Name one of its exports: {export}")


def test_wrong_usage_is_told(studio: Studio) -> None:
    assert_told(studio("train", "--nonsense"), ExitCode.USAGE, "--nonsense")


def test_without_a_display_no_window_is_tried(studio: Studio, no_display: None) -> None:
    assert_told(studio(), ExitCode.NO_DISPLAY, "There is no display")


def test_an_unknown_card_is_told_with_those_that_are_known(studio: Studio, starter_gguf: Path) -> None:
    outcome = studio("estimate", "--model", "starter", "--gpu", "Voodoo 2")

    assert_told(outcome, ExitCode.INVALID_CONFIG, "Voodoo 2")
    assert "RTX 4090" in outcome.err


def test_with_json_the_error_is_the_one_object_on_stdout(studio: Studio) -> None:
    outcome = studio("train", "--json")

    error = outcome.report["error"]
    assert error["kind"] == "invalid_config"
    assert "model.source" in error["message"]


def test_json_may_stand_before_the_command(studio: Studio) -> None:
    assert json.loads(studio("--json", "runs").out) == {"runs": []}


@pytest.mark.parametrize("name", ["nonsense", "a/b/c", "/etc/passwd", "alice/"])
def test_an_upload_to_what_is_no_repository_is_told(studio: Studio, tmp_path: Path, name: str) -> None:
    assert_told(studio("upload", str(tmp_path), "--repo", name), ExitCode.USAGE, "is no repository on the hub")


def test_an_upload_of_what_is_no_export_is_told(studio: Studio, tmp_path: Path) -> None:
    outcome = studio("upload", str(tmp_path), "--repo", "alice/log-bot")

    assert_told(outcome, ExitCode.DAMAGED, "is not a finished export")


def test_a_chat_with_a_model_that_there_is_none_of_is_told(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('name = "x"\n')
    outcome = studio("chat", str(tmp_path), "--prompt", "Hi", "--variant", "tuned,frozen")

    assert_told(outcome, ExitCode.USAGE, "There are tuned, base, merged, gguf")


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--model", "NAME", "--data", "NAME"],
        ["train", "NAME"],
        ["train", "NAME.toml"],
        ["train", "--model", "starter", "--data", "NAME"],
        ["resume", "NAME"],
        ["watch", "NAME"],
        ["compare", "NAME", "NAME"],
        ["pause", "NAME"],
        ["rename", "NAME", "a name"],
        ["import", "NAME"],
        ["report", "NAME", "--out", "NAME"],
        ["delete", "NAME"],
        ["trust", "NAME"],
        ["queue", "add", "NAME"],
        ["task", "NAME"],
        ["merge", "NAME"],
        ["export", "NAME", "--out", "NAME"],
        ["verify", "NAME"],
        ["upload", "NAME", "--repo", "alice/log-bot"],
        ["chat", "NAME", "--prompt", "x"],
        ["preview", "--model", "NAME", "--data", "NAME"],
        ["check-data", "--data", "NAME"],
        ["estimate", "--model", "NAME"],
        ["fit", "--model", "NAME"],
    ],
    ids=" ".join,
)
def test_a_name_that_no_system_has_is_told_by_every_command(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    for name in ("~no-such-user-at-all/x", "x" * 5000, f"{circle}/x", f"{__file__}/x", "x\udcff"):
        outcome = studio(*(word.replace("NAME", name) for word in command))

        assert outcome.code not in (ExitCode.OK, ExitCode.NOT_VERIFIED), name
        assert outcome.err, name
        assert "Traceback" not in outcome.err
        assert "QLoRA Studio itself" not in outcome.err, outcome.err


def test_what_nobody_foresaw_is_told_with_its_traceback_behind_details(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")

    def break_off(demo: bool) -> int:
        raise LookupError("no such colour")

    def run_out_of_disk(demo: bool) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/runs/x")

    assert run([], open_window=break_off, self_test=bool) == ExitCode.ERROR
    told = capsys.readouterr().err
    assert "Something went wrong in QLoRA Studio itself: LookupError: no such colour." in told
    assert "(--details shows more.)" in told
    assert "Traceback" not in told

    assert run(["--details"], open_window=break_off, self_test=bool) == ExitCode.ERROR
    assert "Traceback" in capsys.readouterr().err

    assert run([], open_window=run_out_of_disk, self_test=bool) == ExitCode.DISK_FULL
    assert "/runs/x: No space left on device.\nFree some space" in capsys.readouterr().err
