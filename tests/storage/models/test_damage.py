"""A model's small files, damaged or made to hurt: refused in words that name the file, at once, with nothing loaded."""

import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.storage.models.gguf_header import read_gguf_header
from qlora_studio.storage.models.location import locate_model, model_facts
from qlora_studio.storage.models.safetensors_header import read_safetensors_header
from qlora_studio.storage.runs.parent_adapter import with_parent
from tests.storage.models.damage import CONFIG, flipped, make_adapter, make_gguf, make_model, outcome

_SECONDS = 2.0  # of the processor
_FAST = 13  # every so many bits are flipped where all would take a minute


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_model(tmp_path / "some-model")


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    before = time.process_time()
    yield
    assert time.process_time() - before < 10 * _SECONDS


def facts(path: Path) -> object:
    return model_facts(locate_model(str(path)))


def refusal(reading: Callable[[], object]) -> str:
    before = time.process_time()
    told = outcome(reading)
    assert told and time.process_time() - before < _SECONDS
    return told


def test_a_whole_model_is_read(folder: Path) -> None:
    assert outcome(lambda: facts(folder)) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architectures", 1),
        ("architectures", [1]),
        ("model_type", ["llama"]),
        ("hidden_size", "64"),
        ("hidden_size", -64),
        ("hidden_size", 10**30),
        ("hidden_size", [64, "x"]),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 2.5),
        ("num_attention_heads", {"a": 4}),
        ("vocab_size", -1),
        ("layer_types", ["full_attention", 5]),
        ("text_config", [1]),
        ("text_config", {"num_hidden_layers": 10**9}),
        ("vision_config", {"text": {"deeper": [{"num_labels": 10**9}]}}),
        ("quantization_config", "gptq"),
        ("num_labels", 10**9),
        ("rope_theta", "much"),
        ("anything", 10**30),
    ],
)
def test_a_config_that_says_what_no_model_can_is_refused_by_the_key(folder: Path, key: str, value: Any) -> None:
    make_model(folder, **{key: value})
    told = refusal(lambda: facts(folder))
    assert "config.json" in told and (key in told or key in ("text_config", "vision_config"))


def test_a_config_of_a_far_larger_model_than_its_files_hold_is_refused(folder: Path) -> None:
    make_model(folder, hidden_size=65_536, num_hidden_layers=200)
    assert "and holds 19,200" in refusal(lambda: facts(folder))


def test_infinity_in_a_config_is_a_number_as_mamba_writes_it(folder: Path) -> None:
    make_model(folder, time_step_limit=[0.0, float("inf")])
    assert outcome(lambda: facts(folder)) == ""


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _deep(path: Path) -> None:
    path.write_text('{"a":' * 200_000)


def _latin(path: Path) -> None:
    path.write_bytes(b'{"a": "\xe9"}')


def _many(path: Path) -> None:
    path.write_bytes(b'{"a": [' + b"0," * 1_500_000 + b"0]}")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices as files")
@pytest.mark.parametrize("harm", [_pipe, _device, _folder, _sparse, _loop, _deep, _latin, _many, _empty])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"])
def test_a_file_that_is_none_or_has_no_end_is_refused_by_its_name(
    folder: Path, name: str, harm: Callable[[Path], None]
) -> None:
    harm(folder / name)
    assert name in refusal(lambda: facts(folder))


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices as files")
@pytest.mark.parametrize("harm", [_pipe, _device, _folder, _sparse, _loop, _deep, _latin, _many, _empty])
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapters_file_that_is_none_or_has_no_end_is_refused(
    tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    adapter = make_adapter(tmp_path / "adapter")
    harm(adapter / name)
    config = RunConfig.model_validate({"lora": {"start_from": str(adapter)}})
    assert "adapter" in refusal(lambda: with_parent(config))


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices as files")
@pytest.mark.parametrize("name", ["tokenizer.json", "README.md", "chat_template.jinja", "generation_config.json"])
@pytest.mark.parametrize("harm", [_pipe, _device, _sparse])
def test_nothing_waits_for_a_file_beside_the_weights(folder: Path, name: str, harm: Callable[[Path], None]) -> None:
    (folder / name).touch()
    harm(folder / name)
    before = time.process_time()
    outcome(lambda: facts(folder))
    assert time.process_time() - before < _SECONDS


@pytest.mark.parametrize(
    "places",
    [
        None,
        5,
        [],
        {"a": 5},
        {"a": "../x.safetensors"},
        {"a": "/etc/passwd"},
        {"a": "x/../../y.safetensors"},
        {"a": "."},
    ],
)
def test_an_index_names_files_beside_it_alone(folder: Path, places: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert "model.safetensors.index.json" in refusal(lambda: facts(folder))


def _safetensors(header: object, data: int = 8) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(data)


def _entry(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


_TENSOR = json.dumps(_entry()).encode()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 1 << 63) + b"{}",
        struct.pack("<Q", (1 << 64) - 1) + b"{}",
        _safetensors(b"\xff\xfe"),
        _safetensors(b'{"a":' * 100_000),
        _safetensors(b"{" + _TENSOR[1:-1] + b"," + _TENSOR[1:]),
        _safetensors({"__metadata__": [1], **_entry()}),
        _safetensors({"__metadata__": {"a": 1}, **_entry()}),
        _safetensors(_entry(dtype="F33")),
        _safetensors(_entry(dtype=["F32"])),
        _safetensors(_entry(shape=[-2])),
        _safetensors(_entry(shape=[2.0])),
        _safetensors(_entry(shape=[True, 2])),
        _safetensors(_entry(shape=[1 << 62, 1 << 62])),
        _safetensors(_entry(shape=[1] * 9 + [2])),
        _safetensors(_entry(data_offsets=[-8, 0])),
        _safetensors(_entry(data_offsets=[0, 1 << 63])),
        _safetensors(_entry(data_offsets=[0.0, 8.0])),
        _safetensors(_entry(data_offsets=[4, 12]), 12),
        _safetensors({**_entry(), "b": _entry()["a"]}),
        _safetensors({"a": None}),
        _safetensors(b"{" + b",".join(b'"%d":{}' % number for number in range(500_001)) + b"}"),
    ],
)
def test_a_header_of_safetensors_that_its_file_belies_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    assert "model.safetensors is damaged" in refusal(lambda: read_safetensors_header(path))


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _gguf(body: bytes = b"", *, version: int = 3, tensors: int = 0, entries: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + body + bytes(64)


def _of(kind: int, value: bytes, key: str = "k") -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _tensor(*shape: int, kind: int = 0, start: int = 0, name: str = "t") -> bytes:
    return _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, start)


@pytest.mark.parametrize(
    "data",
    [
        _gguf(version=1),
        b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        _gguf(entries=1 << 60),
        _gguf(tensors=1 << 60),
        _gguf(struct.pack("<Q", 1 << 63), entries=1),
        _gguf(struct.pack("<Q", 1 << 27), entries=1),
        _gguf(_of(99, b""), entries=1),
        _gguf(_of(4, struct.pack("<I", 1)) * 2, entries=2),
        _gguf(_of(9, struct.pack("<IQ", 9, 1) * 1000), entries=1),
        _gguf(_of(9, struct.pack("<IQ", 8, 1 << 40)), entries=1),
        _gguf(_of(9, struct.pack("<IQ", 12, 1 << 61)), entries=1),
        _gguf(_of(9, struct.pack("<IQ", 5, 4000)), entries=1),
        _gguf(_of(4, struct.pack("<I", 0), "general.alignment"), entries=1),
        _gguf(_of(4, struct.pack("<I", 24), "general.alignment"), entries=1),
        _gguf(_of(8, _text("x"), "general.alignment"), entries=1),
        _gguf(_tensor(1 << 62, 1 << 62), tensors=1),
        _gguf(_tensor(4, kind=77), tensors=1),
        _gguf(_tensor(4, start=1 << 63), tensors=1),
        _gguf(_tensor(4, start=3), tensors=1),
        _gguf(_tensor(33, kind=8), tensors=1),
        _gguf(_tensor(*[1] * 9), tensors=1),
        _gguf(_tensor(2) * 2, tensors=2),
        _gguf(_tensor(2) + _tensor(2, name="u"), tensors=2),
    ],
)
def test_a_header_of_gguf_that_its_file_belies_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    assert "model.gguf is no GGUF file, or it is damaged" in refusal(lambda: read_gguf_header(path))


def test_a_gguf_file_whose_download_broke_off_is_told(tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "model.gguf")
    assert outcome(lambda: facts(path)) == ""
    path.write_bytes(path.read_bytes()[:-4096])
    assert "as after a download that broke off" in refusal(lambda: facts(path))


def test_a_gguf_file_that_says_it_has_far_more_words_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "model.gguf", vocabulary=1 << 30)
    assert "and holds 14,592" in refusal(lambda: facts(path))


def test_a_gguf_file_of_zeros_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(_gguf(tensors=1 << 16, entries=1 << 12))
    with path.open("r+b") as file:
        file.truncate(1 << 30)
    assert "model.gguf" in refusal(lambda: facts(path))


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "adapter_config.json"]
)
def test_no_flipped_bit_of_a_small_file_comes_through_as_another_error(tmp_path: Path, name: str) -> None:
    _flip(tmp_path, name, _FAST)


def test_no_flipped_bit_of_a_gguf_header_comes_through_as_another_error(tmp_path: Path) -> None:
    _flip(tmp_path, "model.gguf", 5 * _FAST)


@pytest.mark.faults
@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "model.gguf"),
        *("adapter_config.json", "adapter_model.safetensors"),
    ],
)
def test_no_bit_of_all_comes_through_as_another_error(tmp_path: Path, name: str) -> None:
    _flip(tmp_path, name, 1)


def _flip(folder: Path, name: str, step: int) -> None:
    if name.startswith("adapter"):
        path = make_adapter(folder / "adapter") / name
        config = RunConfig.model_validate({"lora": {"start_from": str(path.parent)}})
        reading: Callable[[], object] = partial(with_parent, config)
    elif name.endswith(".gguf"):
        path = make_gguf(folder / name)
        reading = partial(facts, path)
    else:
        path = make_model(folder / "some-model") / name
        reading = partial(facts, path.parent)
    whole = path.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0] if name.endswith(".safetensors") else len(whole)
    header = min(header, whole.find(b"blk.0.ffn_up.weight") + 60) if name.endswith(".gguf") else header
    told = [outcome(reading) for _ in flipped(path, range(0, 8 * header, step))]
    assert any(told) and outcome(reading) == ""


def test_the_error_of_a_config_keeps_the_reason(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG)[:40])
    with pytest.raises(StudioError, match=r"its config\.json cannot be read: it is no valid JSON"):
        facts(folder)
