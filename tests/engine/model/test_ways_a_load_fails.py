"""Each way in which a base can fail to load, by a worker of its own: one sentence with the cause, and what to do."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from qlora_studio.core.errors import StudioError
from qlora_studio.core.run.job import TrainJob
from qlora_studio.engine.context import QUIET
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.model.adapted import load_base
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.device import choose_device
from qlora_studio.engine.worker import preflight
from tests.engine.families import make_base, make_tokenizer
from tests.engine.finished_run import make_run as make_finished_run
from tests.engine.training_run import make_run

Edit = Callable[[Path], None]
FIRST = "model-00001-of-"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "whole"
    return make_tokenizer(make_base(folder, "llama", shard="60KB"))


def first_shard(folder: Path) -> Path:
    return next(folder.glob(f"{FIRST}*"))


def without_a_shard(folder: Path) -> None:
    first_shard(folder).unlink()


def with_half_a_shard(folder: Path) -> None:
    path = first_shard(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_a_pointer_of_git(folder: Path) -> None:
    first_shard(folder).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 5000000000\n")


def in_8_bits(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        save_file({name: value.to(torch.float8_e4m3fn) for name, value in load_file(path).items()}, path)


def with_integers(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        save_file({name: value.int() for name, value in load_file(path).items()}, path)


def with_a_broken_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("{")


def with_a_config_that_is_none(folder: Path) -> None:
    (folder / "config.json").write_text("<html>")


def as_an_adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "maker/base"}))


def as_a_gguf(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model-Q8_0.gguf").touch()


def of_code_alone(folder: Path) -> None:
    path = folder / "config.json"
    changes = {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "modeling.Own"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("edit", "words", "advice"),
    [
        (without_a_shard, "is incomplete: model-00001-of-", "Download the model again; it continues where it stopped."),
        (with_half_a_shard, "is damaged: it should have ", "an interrupted download leaves such files"),
        (with_a_pointer_of_git, "git put a pointer to them there", "git lfs pull"),
        (
            in_8_bits,
            "has weights of type F8_E4M3, and its config.json does not say how",
            "Choose the same model in 16 bits",
        ),
        (
            with_integers,
            "has weights of type I32, and its config.json does not say how",
            "Choose the same model in 16 bits",
        ),
        (with_a_broken_index, "index.json cannot be read", "Download the model again."),
        (with_a_config_that_is_none, "its config.json cannot be read", "Download the model again."),
        (as_an_adapter, "holds an adapter, not a model", "Choose maker/base, and name the adapter as lora.start_from"),
        (as_a_gguf, "it has no config.json", "Choose the GGUF file in it, model-Q8_0.gguf."),
        (of_code_alone, "it brings Python code of its own", "Choose a model that transformers supports by itself."),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_a_folder_lacks_is_told_before_anything_heavy_is_imported(
    whole: Path, tmp_path: Path, edit: Edit, words: str, advice: str
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(whole, folder)
    edit(folder)
    run = make_run(tmp_path / "runs", folder)
    with pytest.raises(StudioError) as raised:
        preflight(TrainJob(), run)
    assert words in raised.value.message and "\n" not in raised.value.message
    assert advice in raised.value.advice


@pytest.mark.skipif(sys.platform == "win32", reason="Windows says that a folder is denied")
def test_a_file_that_cannot_be_read_is_told_with_the_systems_words(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(whole, folder)
    path = first_shard(folder)
    path.unlink()
    path.mkdir()
    (path / "something").touch()
    with pytest.raises(StudioError, match=f"{FIRST}.* (cannot be read: Is a directory|is missing)"):
        preflight(TrainJob(), make_run(tmp_path / "runs", folder))


def test_code_that_a_known_family_still_names_is_never_run_and_does_not_hinder(whole: Path, tmp_path: Path) -> None:
    folder, marker = tmp_path / "known", tmp_path / "was run"
    shutil.copytree(whole, folder)
    names = {"AutoConfig": "modeling.Config", "AutoModelForCausalLM": "modeling.Model"}
    config = json.loads((folder / "config.json").read_text()) | {"auto_map": names}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: ...\nclass Model: ...\n")
    run = make_run(tmp_path / "runs", folder)
    preflight(TrainJob(), run)
    model = load_base(folder, run.config(), choose_device(run.config(), QUIET))
    assert type(model).__name__ == "LlamaForCausalLM"
    assert not marker.exists()


def test_an_export_of_it_names_no_code(tmp_path: Path) -> None:
    run = make_finished_run(tmp_path)
    path = Path(run.config().model.source) / "config.json"
    names = {"AutoModelForCausalLM": "modeling.Model"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": names}))
    [export] = export_run(run, formats=["safetensors"], channel=QUIET, force=True)
    assert "auto_map" not in json.loads((Path(export.path) / "config.json").read_text())
    AutoModelForCausalLM.from_pretrained(export.path)


def without_files(folder: Path) -> None:
    for path in (*folder.glob("*token*"), *folder.glob("vocab*"), *folder.glob("merges*")):
        path.unlink()


def with_half_a_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:100])


def with_sentencepiece_alone(folder: Path) -> None:
    without_files(folder)
    (folder / "tokenizer.model").write_bytes(b"\n\x05ab")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))


def with_code(folder: Path) -> None:
    without_files(folder)
    names = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["tokenization.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


@pytest.mark.parametrize(
    ("edit", "words", "advice"),
    [
        (without_files, "the folder has none", "fine-tuned copies often lack them"),
        (
            with_half_a_tokenizer,
            "tokenizer.json cannot be read: it is no valid JSON",
            "from where the model was published",
        ),
        (with_sentencepiece_alone, "tokenizer.model needs the package sentencepiece", "the model's tokenizer.json"),
        (with_code, "it brings Python code of its own", "Choose a model whose tokenizer transformers knows"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_tokenizer_that_cannot_be_loaded_says_why(
    whole: Path, tmp_path: Path, edit: Edit, words: str, advice: str
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(whole, folder)
    edit(folder)
    with pytest.raises(StudioError) as raised:
        tokenizer_of(folder)
    assert words in raised.value.message and "\n" not in raised.value.message
    assert advice in raised.value.advice
