"""What a stranger's model, tokenizer or adapter asks for besides being read: nothing of it runs, is fetched or read."""

import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.engine.memory.architecture import config_of, meta_model
from qlora_studio.engine.merge.weights import MergedWeights
from qlora_studio.engine.merge.writer import copy_sidecar_files
from qlora_studio.engine.model import base
from qlora_studio.engine.model.base import base_folder, plain_tokenizer, tokenizer_of
from qlora_studio.engine.model.saved_adapter import with_saved_adapter
from qlora_studio.engine.verification.streamed_adapter import streamed_adapter
from qlora_studio.storage.models.folder import read_config
from qlora_studio.storage.models.location import locate_model, model_facts
from qlora_studio.storage.models.lone_file import lone_file
from tests.engine.families import load, make_adapter

Change = tuple[str, dict[str, Any]]
_NAMED = {"AutoConfig": "modeling.Own", "AutoModelForCausalLM": "modeling.Own", "AutoModel": "modeling.Own"}
_PROGRAMS = ("modeling.py", "tokenization.py", "configuration.py", "custom_generate/generate.py")
_OF_MODELS: dict[str, Change] = {
    "code of a kind that is not known": ("config.json", {"model_type": "own", "auto_map": _NAMED}),
    "code deep within": ("config.json", {"model_type": "own", "a": {"text_config": [{"auto_map": _NAMED}]}}),
    "attention from the hub": ("config.json", {"attn_implementation": "someone/kernel"}),
    "attention under its inner name": ("config.json", {"_attn_implementation_internal": "someone/kernel@main"}),
    "attention of a part": ("config.json", {"attn_implementation": {"text_config": "someone/kernel"}}),
    "attention deep within": ("config.json", {"text_config": {"b": {"_attn_implementation": "paged|some/kernel:f"}}}),
    "experts from the hub": ("config.json", {"experts_implementation": "someone/kernel"}),
    "kernels by name": ("config.json", {"kernel_config": {"kernel_mapping": {"RMSNorm": "someone/kernel"}}}),
    "another config": ("config.json", {"configuration_files": ["config.4.0.0.json"]}),
    "other weights": ("config.json", {"transformers_weights": "adapter_model.bin"}),
    "generation of its own": ("generation_config.json", {"custom_generate": "someone/generate"}),
    "an adapter laid over it": ("adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "some/one"}),
    "a tokenizer in a GGUF": ("tokenizer_config.json", {"gguf_file": "x.gguf"}),
}


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was looked up or connected to, with the hub allowed; at the end it must be nothing."""
    found: list[str] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        found.append(str(arguments))
        raise OSError("no network here")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield found
    assert found == []


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """Where planted programs say that they ran; at the end none has."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists()


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path, marker: Path) -> Path:
    """A whole model with programs beside it."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama, folder)
    for name in _PROGRAMS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"open({str(marker)!r}, 'w')\nclass Own: ...\ndef generate(**k): ...\n")
    return folder


def change(folder: Path, name: str, changes: dict[str, Any]) -> None:
    path = folder / name
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(found | changes))


def ways_to_open(folder: Path, adapter: Path) -> dict[str, Callable[[], Any]]:
    return {
        "the base of a run": lambda: base_folder(str(folder)),
        "facts and estimate": lambda: model_facts(locate_model(str(folder))),
        "config alone": lambda: read_config(folder),
        "transformers' config": lambda: meta_model(config_of(folder)),
        "tokenizer": lambda: tokenizer_of(folder),
        "tokenizer of a GGUF": lambda: plain_tokenizer(folder),
        "merge": lambda: MergedWeights(folder, adapter),
        "files of an export": lambda: copy_sidecar_files(folder.parent / "out", folder),
    }


@pytest.mark.parametrize("name", _OF_MODELS)
def test_what_asks_for_code_is_refused_by_file_and_key_however_it_is_opened(
    folder: Path, tiny_llama: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "out").mkdir()
    file, changes = _OF_MODELS[name]
    change(folder, file, changes)

    for way, opened in ways_to_open(folder, tmp_path / "adapter").items():
        with pytest.raises(StudioError) as raised:
            opened()
        assert raised.value.kind == "model_refused", way
        assert file in raised.value.message, (way, raised.value.message)


def test_configs_and_tokenizers_are_opened_behind_the_gate_alone() -> None:
    product = Path(base.__file__).parents[2]
    found = {
        path.relative_to(product).as_posix(): re.findall(r"Auto(?:Config|Tokenizer)\.from_pretrained\((\S+?),", text)
        for path in product.rglob("*.py")
        if "from_pretrained(" in (text := path.read_text("utf-8"))
    }

    assert {name: places for name, places in found.items() if places} == {
        "engine/memory/architecture.py": ["folder"],
        "engine/model/base.py": ["folder", "alone.parent"],
    }


@pytest.mark.parametrize("name", ["AutoTokenizer", "AutoModelForCausalLM", "Trainer", "pipelines", 7, ["x"]])
@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
def test_a_tokenizers_class_is_a_tokenizer_or_refused(folder: Path, file: str, name: object) -> None:
    change(folder, file, {"tokenizer_class": name})

    with pytest.raises(StudioError, match="tokenizer_class"):
        tokenizer_of(folder)


def test_a_file_elsewhere_is_not_read_as_the_tokenizers(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("mine\n")
    for value in (str(tmp_path / "secret.txt"), "../secret.txt"):
        change(folder, "tokenizer_config.json", {"vocab_file": value})
        with pytest.raises(StudioError, match=r"vocab_file in tokenizer_config\.json"):
            tokenizer_of(folder)


def test_stale_paths_of_whoever_saved_a_tokenizer_do_not_hinder(folder: Path) -> None:
    there = str(Path(__file__))
    change(folder, "tokenizer_config.json", {"vocab_file": "/nowhere/at/all", "special_tokens_map_file": there})
    change(folder, "tokenizer_config.json", {"tokenizer_file": there})  # its own tokenizer.json is taken

    assert tokenizer_of(folder)("Hi").input_ids


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "chat_template.jinja", "config.json", "tokenizer.json"])
def test_a_link_that_leads_out_is_refused_before_an_export_carries_the_file_away(
    folder: Path, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"mine")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret)

    for way, opened in ways_to_open(folder, tmp_path / "adapter").items():
        with pytest.raises(StudioError) as raised:
            opened()
        assert f"{name} is a link to a file outside of the folder" in raised.value.message, way


def test_links_within_the_hubs_cache_are_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "another" / "models--somebody--model"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / "abc"
    snapshot.parent.mkdir()
    folder.rename(snapshot)
    for number, path in enumerate(item for item in list(snapshot.iterdir()) if item.is_file()):
        path.rename(repository / "blobs" / str(number))
        path.symlink_to(Path("../../blobs") / str(number))

    assert read_config(snapshot)["model_type"] == "llama"
    assert tokenizer_of(snapshot)("Hi").input_ids


def test_code_that_a_known_family_names_is_passed_over_and_in_nothing_that_is_written(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    change(folder, "config.json", {"auto_map": _NAMED, "part": {"auto_map": _NAMED}})
    for name in ("tokenizer_config.json", "processor_config.json", "generation_config.json"):
        change(folder, name, {"auto_map": {"AutoTokenizer": ["x/y--tokenization.Own", None]}})
        change(folder, name, {"trust_remote_code": True, "kept": {"trust_remote_code": True, "that": "stays"}})

    tokenizer_of(folder).save_pretrained(str(tmp_path / "saved"))
    copy_sidecar_files(out, folder)
    meta_model(config_of(folder))

    written = "".join(path.read_text() for path in [*out.glob("*config.json"), *(tmp_path / "saved").glob("*.json")])
    assert "stays" in written
    assert "auto_map" not in written and "trust_remote_code" not in written


def test_nothing_beside_a_gguf_is_read_with_it(tmp_path: Path, starter_gguf: Path) -> None:
    (tmp_path / "a.gguf").symlink_to(starter_gguf)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/model"}')

    with lone_file(tmp_path / "a.gguf") as alone:
        assert [path.name for path in alone.parent.iterdir()] == ["a.gguf"]
        assert alone.read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "PROMPT_TUNING", "prompt_tuning_init": "TEXT", "tokenizer_name_or_path": "someone/code"},
        {"peft_type": "XLORA", "adapters": {"0": "someone/adapter"}},
        {"peft_type": "SHADOW", "shadow_model": "someone/model"},
        {"megatron_config": {"a": 1}, "megatron_core": "megatron.planted"},
        {"init_lora_weights": "corda", "corda_config": {"cache_file": "x.pt"}},
        {"init_lora_weights": "lora_ga"},
        {"layer_replication": [[0, 1], [0, 2]]},
    ],
    ids=lambda changes: "-".join(map(str, changes)),
)
def test_an_adapter_that_would_fetch_import_or_unpickle_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    adapter = make_adapter(tmp_path / "adapter", folder)
    change(adapter, "adapter_config.json", changes)

    for opened in (
        lambda: with_saved_adapter(load(folder), adapter),
        lambda: streamed_adapter(adapter, as_trained=True),
        lambda: MergedWeights(folder, adapter).tensors,
    ):
        with pytest.raises(StudioError):
            opened()
